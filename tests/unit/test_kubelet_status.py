"""What the process kubelet says about a pod."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelworker_devcluster.kubelet import adopt
from modelworker_devcluster.kubelet.status import (
    ContainerRecord,
    PodRecord,
    Refusal,
    Running,
    Terminated,
    Waiting,
    phase,
    pod_status,
    should_restart,
)

Object = dict[str, Any]

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def ended(code: int) -> Terminated:
    reason = "Error" if code else "Completed"
    return Terminated(code, reason, "bye", NOW, NOW, "process://1")


def container(state: Waiting | Running | Terminated, **known: Any) -> ContainerRecord:
    return ContainerRecord("c", "local/x", state=state, **known)


NEW = container(Waiting("ContainerCreating"))
UP = container(Running(NOW), ready=True, started=True, container_id="process://1")
CRASHING = container(Waiting("CrashLoopBackOff", "back-off"), last=ended(1), restarts=2)


def record(*containers: ContainerRecord, **known: Any) -> PodRecord:
    defaults: Object = {"restart_policy": "Always", "init_containers": (), "pod_ip": "127.9.9.9"}
    return PodRecord(NOW, containers=containers, **(defaults | known))


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        pytest.param(record(NEW), "Pending", id="new"),
        pytest.param(record(UP), "Running", id="up"),
        pytest.param(record(UP, NEW), "Pending", id="one-not-yet"),
        pytest.param(record(CRASHING), "Running", id="crash-loop"),
        pytest.param(record(container(ended(0))), "Running", id="always-restarts"),
        pytest.param(
            record(container(ended(0)), restart_policy="OnFailure"), "Succeeded", id="done"
        ),
        pytest.param(
            record(container(ended(1)), restart_policy="OnFailure"), "Running", id="tries-again"
        ),
        pytest.param(record(container(ended(1)), restart_policy="Never"), "Failed", id="failed"),
        pytest.param(
            record(container(ended(0)), container(ended(1)), restart_policy="Never"),
            "Failed",
            id="one-failed",
        ),
        pytest.param(record(NEW, init_containers=(UP,)), "Pending", id="init-runs"),
        pytest.param(record(NEW, init_containers=(CRASHING,)), "Pending", id="init-crashes"),
        pytest.param(
            record(NEW, init_containers=(container(ended(1)),), restart_policy="Never"),
            "Failed",
            id="init-failed",
        ),
        pytest.param(record(UP, init_containers=(container(ended(0)),)), "Running", id="init-done"),
        pytest.param(record(NEW, refusal=Refusal("No", "because")), "Failed", id="refused"),
        pytest.param(record(container(ended(0)), ending=True), "Succeeded", id="deleted-well"),
        pytest.param(record(container(ended(143)), ending=True), "Failed", id="deleted-badly"),
        pytest.param(record(UP, ending=True), "Running", id="being-deleted"),
    ],
)
def test_phase(subject: PodRecord, expected: str) -> None:
    assert phase(subject) == expected


@pytest.mark.parametrize(
    ("policy", "code", "init", "again"),
    [
        ("Always", 0, False, True),
        ("Always", 1, False, True),
        ("Always", 0, True, False),
        ("OnFailure", 0, False, False),
        ("OnFailure", 1, False, True),
        ("Never", 1, False, False),
        ("Never", 1, True, False),
    ],
)
def test_should_restart(policy: str, code: int, init: bool, again: bool) -> None:
    assert should_restart(policy, code, init=init) is again


def conditions(status: Object) -> dict[str, tuple[str, str | None, str | None]]:
    return {
        one["type"]: (one["status"], one["reason"], one["message"]) for one in status["conditions"]
    }


def test_status_of_a_ready_pod() -> None:
    subject = record(UP, init_containers=(replace(container(ended(0)), name="i"),))
    assert pod_status(subject, generation=3, before=[], now=NOW) == {
        "observedGeneration": 3,
        "phase": "Running",
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "reason": None,
                "message": None,
                "lastTransitionTime": "2030-01-02T03:04:05Z",
            }
            for kind in (
                "PodScheduled",
                "PodReadyToStartContainers",
                "Initialized",
                "ContainersReady",
                "Ready",
            )
        ],
        "startTime": "2030-01-02T03:04:05Z",
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
        "podIP": "127.9.9.9",
        "podIPs": [{"ip": "127.9.9.9"}],
        "containerStatuses": [
            {
                "name": "c",
                "image": "local/x",
                "imageID": "local/x",
                "containerID": "process://1",
                "state": {"running": {"startedAt": "2030-01-02T03:04:05Z"}},
                "lastState": {},
                "restartCount": 0,
                "ready": True,
                "started": True,
            }
        ],
        "initContainerStatuses": [
            {
                "name": "i",
                "image": "local/x",
                "imageID": "",
                "containerID": None,
                "state": {
                    "terminated": {
                        "exitCode": 0,
                        "reason": "Completed",
                        "message": "bye",
                        "startedAt": "2030-01-02T03:04:05Z",
                        "finishedAt": "2030-01-02T03:04:05Z",
                        "containerID": "process://1",
                    }
                },
                "lastState": {},
                "restartCount": 0,
                "ready": True,
                "started": False,
            }
        ],
    }


@pytest.mark.parametrize(
    ("subject", "kind", "verdict"),
    [
        pytest.param(
            record(NEW),
            "Ready",
            ("False", "ContainersNotReady", "containers with unready status: [c]"),
            id="not-ready",
        ),
        pytest.param(
            record(NEW, init_containers=(CRASHING,)),
            "Initialized",
            ("False", "ContainersNotInitialized", "containers with incomplete status: [c]"),
            id="not-initialized",
        ),
        pytest.param(
            record(container(ended(0)), restart_policy="Never"),
            "Ready",
            ("False", "PodCompleted", None),
            id="completed",
        ),
        pytest.param(
            record(UP, not_enforced=("spec.a", "spec.b")),
            "devcluster.modelworker.dev/IsolationEnforced",
            (
                "False",
                "PlainProcesses",
                "containers run as plain processes; not enforced: spec.a, spec.b",
            ),
            id="isolation",
        ),
    ],
)
def test_condition(subject: PodRecord, kind: str, verdict: tuple[str, str, str | None]) -> None:
    status = pod_status(subject, generation=1, before=[], now=NOW)
    assert conditions(status)[kind] == verdict


def test_transition_time_moves_with_the_status_alone() -> None:
    first = pod_status(record(NEW), generation=1, before=[], now=NOW)
    later = NOW + timedelta(minutes=1)
    second = pod_status(record(UP), generation=1, before=first["conditions"], now=later)
    times = {one["type"]: one["lastTransitionTime"] for one in second["conditions"]}
    assert times["PodScheduled"] == "2030-01-02T03:04:05Z"
    assert times["Ready"] == "2030-01-02T03:05:05Z"


def test_refused_pod_says_why_and_has_no_containers() -> None:
    subject = record(NEW, refusal=Refusal("NotSupportedByDevcluster", "spec.hostPID"), pod_ip="")
    status = pod_status(subject, generation=1, before=[], now=NOW)
    assert (status["phase"], status["reason"], status["message"], status["containerStatuses"]) == (
        "Failed",
        "NotSupportedByDevcluster",
        "spec.hostPID",
        [],
    )
    assert "podIP" not in status


def stored(state: Object, **more: Any) -> Object:
    status = {"name": "c", "state": state, "restartCount": 2, "containerID": "process://1"} | more
    return {
        "spec": {"containers": [{"name": "c", "image": "local/x"}]},
        "status": {"containerStatuses": [status]},
    }


def test_container_that_ran_is_lost_with_its_kubelet() -> None:
    (found,) = adopt.records(
        stored({"running": {"startedAt": "2030-01-02T03:00:00Z"}}), NOW, init=False
    )
    assert isinstance(found.state, Terminated)
    assert (found.state.exit_code, found.state.reason, found.restarts) == (
        137,
        "ContainerStatusUnknown",
        2,
    )


def test_container_that_ended_is_remembered() -> None:
    terminated = {
        "exitCode": 0,
        "reason": "Completed",
        "startedAt": "2030-01-02T03:00:00Z",
        "finishedAt": "2030-01-02T03:01:00Z",
    }
    (found,) = adopt.records(stored({"terminated": terminated}), NOW, init=False)
    assert found.succeeded


def test_container_that_waited_keeps_its_history() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    last = {"terminated": {"exitCode": 3}}
    (found,) = adopt.records(stored(waiting, lastState=last), NOW, init=False)
    assert found.state == Waiting("ContainerCreating")
    assert found.last is not None
    assert found.last.exit_code == 3
