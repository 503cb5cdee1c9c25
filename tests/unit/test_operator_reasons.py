"""Why a worker is not ready: every reason with its evidence, and none without."""

import re
from pathlib import Path
from typing import Any

import pytest

from modelworker_api import kube, wire
from modelworker_api.adapters import AdapterState
from modelworker_operator.status import Beat, Problem
from tests.operator_objects import (
    LATER,
    beat,
    condition,
    deployment,
    modelworker,
    pod,
    rewardmodel,
    status_of,
    terminated,
    unscheduled,
    waiting,
)

Reason = kube.Reason
Load = wire.LoadState
A, B = "mw-smol-1-a", "mw-smol-1-b"
DOC = Path(__file__).parents[2] / "docs/conditions.md"

QUOTA = 'pods "mw-smol-1-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=3'
FORBIDDEN = 'pods "mw-smol-1-x" is forbidden: violates PodSecurity "restricted:latest"'


def replica_failure(message: str) -> dict[str, Any]:
    failure = {"type": "ReplicaFailure", "status": "True", "message": message}
    return deployment(updated=0, conditions=[failure])


def ready_of(*pods: dict[str, Any], **given: Any) -> tuple[kube.Reason, str]:
    """Reason and message of Ready, for one worker or for as many as there are pods."""
    worker = modelworker(replicas=max(1, len(pods)), gpu={"count": 1})
    one = condition(status_of(worker, *pods, **given), kube.ConditionType.READY)
    assert one["status"] != "True"
    return Reason(one["reason"]), one["message"]


CASES = [
    pytest.param(
        unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
        None,
        Reason.INSUFFICIENT_GPU,
        "3 Insufficient nvidia.com/gpu.; lower spec.gpu.count",
        id="no-gpu",
    ),
    pytest.param(
        unscheduled('persistentvolumeclaim "models" not found'),
        None,
        Reason.VOLUME_CLAIM_NOT_FOUND,
        "create the claim, or correct spec.model.source.pvc.claimName",
        id="no-claim",
    ),
    pytest.param(
        unscheduled("0/1 nodes are available: 1 Insufficient memory."),
        None,
        Reason.UNSCHEDULABLE,
        "1 Insufficient memory.; see spec.scheduling",
        id="no-memory",
    ),
    pytest.param(
        unscheduled("", reason="SchedulingGated"), None, Reason.UNSCHEDULABLE, "", id="gated"
    ),
    pytest.param(
        pod(state=waiting("ErrImagePull", "pull access denied")),
        None,
        Reason.IMAGE_PULL_FAILED,
        "image local/worker:1 cannot be pulled: pull access denied; correct spec.image",
        id="image-denied",
    ),
    pytest.param(
        pod(
            state=waiting(
                "ImagePullBackOff",
                'Back-off pulling image "x": ErrImagePull: pull access denied',
            )
        ),
        None,
        Reason.IMAGE_PULL_FAILED,
        "image local/worker:1 cannot be pulled: pull access denied; correct spec.image",
        id="image-back-off-says-the-same",
    ),
    pytest.param(
        pod(state=waiting("InvalidImageName")), None, Reason.IMAGE_PULL_FAILED, "", id="image-name"
    ),
    pytest.param(
        pod(state=waiting("CreateContainerConfigError", 'secret "hub" not found')),
        None,
        Reason.CONTAINER_CONFIG_ERROR,
        'secret "hub" not found; create what is missing',
        id="secret-missing",
    ),
    pytest.param(
        pod(state=terminated(137, reason="OOMKilled")),
        None,
        Reason.OUT_OF_MEMORY,
        "exit code 137); raise spec.resources.limits.memory",
        id="oom",
    ),
    pytest.param(
        pod(last=terminated(137, reason="OOMKilled"), restarts=1),
        beat(Load.LOADING),
        Reason.OUT_OF_MEMORY,
        "",
        id="oom-stays-told-until-ready",
    ),
    pytest.param(
        pod(state=waiting("CrashLoopBackOff"), last=terminated(3, "a\nRuntimeError: b\n")),
        None,
        Reason.CRASH_LOOP,
        "exit code 3, last line: RuntimeError: b, again and again; `kubectl logs -n ns",
        id="crash-loop",
    ),
    pytest.param(
        pod(last=terminated(1), restarts=2),
        None,
        Reason.CRASH_LOOP,
        "the worker ended with exit code 1, again and again",
        id="crashed-twice",
    ),
    pytest.param(
        pod(
            last=terminated(1, startedAt="2026-01-01T00:00:00Z", finishedAt="2026-01-01T08:00:00Z"),
            restarts=5,
        ),
        None,
        Reason.STARTING,
        "",
        id="crashed-now-and-then",
    ),
    pytest.param(
        pod(state=terminated(137)),
        None,
        Reason.REPLICAS_NOT_READY,
        "ended with exit code 137; it is started again",
        id="killed-once-is-no-loop-and-no-oom",
    ),
    pytest.param(
        pod(last=terminated(137), restarts=1),
        beat(Load.LOADING, progress=42),
        Reason.LOADING,
        "Loading 40 %",
        id="killed-once-and-back",
    ),
    pytest.param(
        pod(phase="Failed", reason="Evicted", message="low on memory", containerStatuses=[]),
        None,
        Reason.REPLICAS_NOT_READY,
        "Evicted: low on memory",
        id="evicted",
    ),
    pytest.param(pod(), None, Reason.STARTING, "the worker process is starting", id="starting"),
    pytest.param(pod(), beat(), Reason.STARTING, "probe does not pass", id="not-probed"),
    pytest.param(pod(), beat(Load.DRAINING), Reason.STARTING, "and ends", id="draining"),
    pytest.param(
        pod(state=waiting("ContainerCreating")),
        None,
        Reason.STARTING,
        "has not started (ContainerCreating); `kubectl describe pod -n ns mw-smol-1-a`",
        id="creating",
    ),
    pytest.param(
        pod(),
        beat(Load.DOWNLOADING, progress=7),
        Reason.DOWNLOADING,
        "Downloading 5 %",
        id="downloading",
    ),
    pytest.param(pod(), beat(Load.LOADING), Reason.LOADING, "Loading; ", id="loading"),
    pytest.param(pod(), beat(Load.WARMING), Reason.WARMING, "Warming; ", id="warming"),
    pytest.param(
        pod(), beat(Load.LOADING, age=60), Reason.LOADING, "silent for some time", id="silent"
    ),
    pytest.param(pod(ready=True), beat(age=60), Reason.HEARTBEAT_STALE, "no heartbeat", id="stale"),
    *(
        pytest.param(
            pod(state=waiting("CrashLoopBackOff"), last=terminated(1, f"x\n{reason}: cannot\n")),
            None,
            Reason(reason),
            "pod mw-smol-1-a: cannot; ",
            id=f"line-{reason}",
        )
        for reason in wire.FailureReason
    ),
    *(
        pytest.param(
            pod(),
            beat(Load.FAILED, reason=reason, message="cannot"),
            Reason(reason),
            "pod mw-smol-1-a: cannot; ",
            id=f"heartbeat-{reason}",
        )
        for reason in wire.FailureReason
    ),
    pytest.param(
        pod(), beat(Load.FAILED), Reason.LOAD_FAILED, "LoadFailed; ", id="heartbeat-without-reason"
    ),
]


@pytest.mark.parametrize(("one", "heard", "reason", "words"), CASES)
def test_reason_of_a_pod(
    one: dict[str, Any], heard: Beat | None, reason: kube.Reason, words: str
) -> None:
    found, message = ready_of(one, beats={A: heard} if heard else {})
    assert found is reason
    assert words in message
    # Says what to do: a command, or a field to set.
    assert re.search(r"`kubectl [^`]+`|spec\.\w+", message.rpartition("; ")[2])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(QUOTA, Reason.QUOTA_EXCEEDED, id="quota"),
        pytest.param(FORBIDDEN, Reason.POD_CREATION_FAILED, id="pod-security"),
    ],
)
def test_reason_of_a_deployment(message: str, reason: kube.Reason) -> None:
    found, told = ready_of(live=replica_failure(message))
    assert found is reason
    assert message in told
    assert "`kubectl describe" in told


@pytest.mark.parametrize(
    ("pods", "reason", "pod_name"),
    [
        pytest.param(
            (pod(A, state=waiting("ErrImagePull")), pod(B)), Reason.IMAGE_PULL_FAILED, A, id="image"
        ),
        pytest.param(
            (pod(A, ready=True), pod(B, state=terminated(1, "LoadFailed: x"))),
            Reason.LOAD_FAILED,
            B,
            id="one-failed",
        ),
        pytest.param(
            (pod(A, phase="Failed", reason="Evicted"), pod(B)), Reason.STARTING, B, id="replaced"
        ),
        pytest.param(
            (pod(A, deleted=True, state=terminated(1)), pod(B)), Reason.STARTING, B, id="leaving"
        ),
    ],
)
def test_worst_of_several_pods_is_told(
    pods: tuple[dict[str, Any], ...], reason: kube.Reason, pod_name: str
) -> None:
    found, message = ready_of(*pods, beats={A: beat()})
    assert found is reason
    assert f"pod {pod_name}" in message


def test_reason_told_once_stays_the_same_text() -> None:
    pulled = pod(state=waiting("ErrImagePull", "denied"))
    backed_off = pod(
        state=waiting("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: denied')
    )
    first = status_of(None, pulled)
    assert status_of(modelworker(status=first), backed_off, now=LATER) == first


@pytest.mark.parametrize(
    "secret",
    ["hf_AbCdEfGhIjKlMnOp", "Bearer abc.def-ghi", "https://user:pass@hub.example.com/x"],
)
def test_credentials_in_foreign_text_are_masked(secret: str) -> None:
    _, message = ready_of(pod(state=terminated(1, f"failed with {secret} today")))
    assert secret not in message
    assert "***" in message


def test_foreign_text_is_one_capped_line() -> None:
    _, message = ready_of(pod(state=waiting("ErrImagePull", "x\n\t" * 5000)))
    assert "\n" not in message
    assert len(message) < 800


def test_long_problem_keeps_its_beginning_and_what_to_do() -> None:
    problem = Problem(Reason.APPLY_REJECTED, f"Deployment {'x' * 50_000}; correct the field")
    status = status_of(None, problem=problem)
    for kind in (kube.ConditionType.ACCEPTED, kube.ConditionType.READY):
        message = condition(status, kind)["message"]
        assert len(message) == 1000
        assert message.startswith("Deployment x")
        assert message.endswith("; correct the field")


def reasons_covered() -> set[kube.Reason]:
    """Reasons that the tables above, and those of test_operator_status.py, produce."""
    told = {Reason(str(case.values[2])) for case in CASES}
    told |= {Reason.QUOTA_EXCEEDED, Reason.POD_CREATION_FAILED}
    lora = modelworker(backend="VLLM", lora={"adapters": [{"name": "math", "path": "math"}]})
    math = {"name": "math", "location": "/models/math"}
    worlds: list[dict[str, Any]] = [
        status_of(None, pod(ready=True), beats={A: beat()}),
        status_of(rewardmodel()),
        *(
            status_of(
                rewardmodel(),
                pod("r", owner="rwm-smol-1", ready=True),
                beats={"r": beat(scoring={"family": "x", "recipe_hash": "y", "compared": known})},
            )
            for known in (True, False)
        ),
        *(
            status_of(lora, pod(ready=True), beats={A: beat(adapters=[{**math, "state": state}])})
            for state in AdapterState
        ),
        status_of(modelworker(replicas=0)),
        status_of(None, live=deployment(updated=0)),
        status_of(None, live=deployment(progressing="ProgressDeadlineExceeded", updated=0)),
        *(
            status_of(None, problem=Problem(reason, "x"))
            for reason in (
                Reason.INVALID_SPEC,
                Reason.CHILD_CONFLICT,
                Reason.APPLY_FORBIDDEN,
                Reason.APPLY_REJECTED,
            )
        ),
    ]
    return told | {Reason(one["reason"]) for world in worlds for one in world["conditions"]}


def test_every_reason_can_be_told() -> None:
    assert reasons_covered() == set(Reason)


def test_every_reason_is_explained() -> None:
    headings = re.findall(r"^### (\w+)$", DOC.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(Reason)


def test_every_explanation_says_evidence_and_what_to_do() -> None:
    parts = re.split(r"^### \w+$", DOC.read_text(), flags=re.MULTILINE)[1:]
    assert all("**Seen:**" in part and "**Do:**" in part for part in parts)
