"""The status as a function of the world, the heartbeats and time."""

import re
from typing import Any

import pytest

from modelworker_api import kube, wire
from modelworker_operator.spec import identify
from modelworker_operator.status import Beat, Observed, Problem, status_for
from tests.operator_objects import (
    LATER,
    NOW,
    beat,
    condition,
    deployment,
    modelworker,
    pod,
    raw_modelworker,
    service,
    status_of,
)

Type = kube.ConditionType
Reason = kube.Reason
A, B = "mw-smol-1-a", "mw-smol-1-b"


def said(status: dict[str, Any], kind: kube.ConditionType) -> tuple[str, str]:
    one = condition(status, kind)
    return one["status"], one["reason"]


def test_whole_status_of_a_ready_worker() -> None:
    time = "2026-01-02T03:04:05Z"
    assert status_of(None, pod(ready=True), beats={A: beat()}) == {
        "observedGeneration": 1,
        "replicas": 1,
        "readyReplicas": 1,
        "selector": "modelworker.dev/kind=ModelWorker,modelworker.dev/name=smol",
        "url": "http://mw-smol.ns.svc:8000",
        "model": {"name": "smol", "revision": "abc", "dtype": "float32", "maxModelLen": 8192},
        "workers": [
            {
                "pod": A,
                "address": "10.0.0.1:8000",
                "state": "Ready",
                "revision": "abc",
                "dtype": "float32",
                "heartbeat": "Fresh",
            }
        ],
        "conditions": [
            {
                "type": "Accepted",
                "status": "True",
                "reason": "Valid",
                "message": "Deployment and Service mw-smol match the spec",
                "lastTransitionTime": time,
                "observedGeneration": 1,
            },
            {
                "type": "Available",
                "status": "True",
                "reason": "MinimumReplicasAvailable",
                "message": "1 of 1 workers ready",
                "lastTransitionTime": time,
                "observedGeneration": 1,
            },
            {
                "type": "Progressing",
                "status": "True",
                "reason": "RolloutComplete",
                "message": "every worker runs the newest template",
                "lastTransitionTime": time,
                "observedGeneration": 1,
            },
            {
                "type": "Ready",
                "status": "True",
                "reason": "AllReplicasReady",
                "message": "1 of 1 workers ready",
                "lastTransitionTime": time,
                "observedGeneration": 1,
            },
        ],
    }


@pytest.mark.parametrize(
    ("pods", "beats"),
    [
        pytest.param((pod(ready=True),), {A: beat()}, id="ready"),
        pytest.param((pod(ready=True),), {A: beat(age=100)}, id="silent"),
        pytest.param((pod(),), {A: beat(wire.LoadState.LOADING, progress=42)}, id="loading"),
        pytest.param((), {}, id="no-pods"),
    ],
)
def test_same_world_gives_equal_status(
    pods: tuple[dict[str, Any], ...], beats: dict[str, Beat]
) -> None:
    first = status_of(None, *pods, beats=beats)
    assert status_of(modelworker(status=first), *pods, beats=beats, now=LATER) == first


def test_transition_time_moves_with_the_status_alone() -> None:
    loading = status_of(None, pod(), beats={A: beat(wire.LoadState.LOADING)})
    warming = status_of(
        modelworker(status=loading), pod(), beats={A: beat(wire.LoadState.WARMING)}, now=LATER
    )
    ready = status_of(modelworker(status=warming), pod(ready=True), beats={A: beat()}, now=LATER)
    times = [condition(s, Type.READY)["lastTransitionTime"] for s in (loading, warming, ready)]
    assert times == ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", "2026-01-02T04:00:00Z"]
    assert condition(warming, Type.READY)["reason"] == Reason.WARMING


@pytest.mark.parametrize(
    ("one", "heard", "state"),
    [
        pytest.param(pod(ready=True), beat(), "Ready", id="ready"),
        pytest.param(pod(ready=True), None, "Ready", id="ready-and-silent"),
        pytest.param(
            pod(ready=True), beat(wire.LoadState.LOADING), "Ready", id="readiness-decides"
        ),
        pytest.param(pod(ready=True, ip=None), beat(), "Starting", id="no-address"),
        pytest.param(pod(ready=True, deleted=True), beat(), "Draining", id="deleted"),
        pytest.param(pod(), beat(wire.LoadState.DOWNLOADING), "Downloading", id="downloading"),
        pytest.param(pod(), beat(wire.LoadState.LOADING), "Loading", id="loading"),
        pytest.param(pod(), beat(wire.LoadState.WARMING), "Warming", id="warming"),
        pytest.param(pod(), beat(wire.LoadState.DRAINING), "Draining", id="draining"),
        pytest.param(pod(), beat(wire.LoadState.FAILED), "Failed", id="failed"),
        pytest.param(pod(), beat(), "Starting", id="not-yet-probed"),
        pytest.param(pod(), None, "Starting", id="not-heard"),
        pytest.param(
            pod(state={"waiting": {"reason": "ContainerCreating"}}), None, "Pending", id="creating"
        ),
        pytest.param(
            pod(state={"terminated": {"exitCode": 1}}),
            beat(wire.LoadState.LOADING),
            "Failed",
            id="died",
        ),
        pytest.param(pod(containerStatuses=[]), None, "Pending", id="unseen"),
    ],
)
def test_state_of_a_worker(one: dict[str, Any], heard: Beat | None, state: str) -> None:
    (entry,) = status_of(None, one, beats={A: heard} if heard else {})["workers"]
    assert entry["state"] == state


def test_ipv6_address_has_brackets() -> None:
    assert status_of(None, pod(ip="fd00::1"))["workers"][0]["address"] == "[fd00::1]:8000"


def test_workers_are_sorted_and_strangers_left_out() -> None:
    status = status_of(
        modelworker(replicas=2),
        pod(B, ready=True),
        pod(A, ready=True),
        pod("x", ready=True, owner="other-1"),
        pod("gone", phase="Failed"),
    )
    assert [entry["pod"] for entry in status["workers"]] == [A, B]
    assert status["readyReplicas"] == 2


def test_more_than_64_workers_are_counted_and_ready_ones_listed() -> None:
    pods = [pod(f"mw-smol-1-{n:03}", ready=n >= 6) for n in range(70)]
    status = status_of(modelworker(replicas=70), *pods)
    assert len(status["workers"]) == 64
    assert {entry["state"] for entry in status["workers"]} == {"Ready"}
    assert status["workersNotListed"] == 6


def test_progress_moves_in_steps_of_five_percent() -> None:
    def shown(percent: int) -> Any:
        heard = beat(wire.LoadState.DOWNLOADING, progress=percent)
        return status_of(None, pod(), beats={A: heard})["workers"][0]["progress"]

    assert [shown(percent) for percent in (0, 4, 5, 99, 100)] == [0, 0, 5, 95, 100]


def test_model_leaves_out_what_ready_workers_differ_in() -> None:
    beats = {A: beat(), B: beat(revision="def")}
    status = status_of(modelworker(replicas=2), pod(A, ready=True), pod(B, ready=True), beats=beats)
    assert status["model"] == {"name": "smol", "dtype": "float32", "maxModelLen": 8192}


def test_model_shows_the_revision_asked_for_before_one_is_served() -> None:
    source = {"huggingFace": {"repo": "a/b", "revision": "v1"}}
    status = status_of(modelworker(model={"source": source, "name": "x"}), pod())
    assert status["model"] == {"name": "x", "revision": "v1"}


@pytest.mark.parametrize(
    ("live", "pods", "ready", "progressing"),
    [
        pytest.param(
            deployment(replicas=2),
            (pod(A, ready=True), pod(B, ready=True)),
            ("True", "AllReplicasReady"),
            ("True", "RolloutComplete"),
            id="all-ready",
        ),
        pytest.param(
            deployment(replicas=2, progressing="ReplicaSetUpdated"),
            (pod(A, ready=True), pod(B, ready=True)),
            ("True", "AllReplicasReady"),
            ("True", "RolloutInProgress"),
            id="ready-before-counted",
        ),
        pytest.param(
            deployment(replicas=2, updated=1),
            (pod(A, ready=True), pod(B, ready=True)),
            ("False", "RolloutInProgress"),
            ("True", "RolloutInProgress"),
            id="old-workers-serve",
        ),
        pytest.param(
            deployment(replicas=2, observedGeneration=2),
            (pod(A, ready=True), pod(B, ready=True)),
            ("False", "RolloutInProgress"),
            ("True", "RolloutInProgress"),
            id="controller-has-not-seen-the-new-spec",
        ),
        pytest.param(
            deployment(replicas=2, updated=1, progressing="ProgressDeadlineExceeded"),
            (pod(A, ready=True),),
            ("False", "ProgressDeadlineExceeded"),
            ("False", "ProgressDeadlineExceeded"),
            id="deadline",
        ),
        pytest.param(
            deployment(replicas=2),
            (pod(A, ready=True),),
            ("False", "ReplicasNotReady"),
            ("True", "RolloutComplete"),
            id="pod-missing",
        ),
    ],
)
def test_ready_is_the_spec_as_asked(
    live: dict[str, Any],
    pods: tuple[dict[str, Any], ...],
    ready: tuple[str, str],
    progressing: tuple[str, str],
) -> None:
    beats = {A: beat(), B: beat()}
    status = status_of(modelworker(replicas=2), *pods, live=live, beats=beats)
    assert said(status, Type.READY) == ready
    assert said(status, Type.PROGRESSING) == progressing
    assert said(status, Type.AVAILABLE) == ("True", "MinimumReplicasAvailable")


def test_scaled_to_zero() -> None:
    status = status_of(modelworker(replicas=0))
    assert said(status, Type.READY) == ("False", "ScaledToZero")
    assert said(status, Type.AVAILABLE) == ("False", "ScaledToZero")
    assert said(status, Type.PROGRESSING) == ("True", "RolloutComplete")
    assert "kubectl scale mw -n ns smol --replicas=1" in condition(status, Type.READY)["message"]


def test_no_worker_ready_is_unavailable() -> None:
    assert said(status_of(None, pod()), Type.AVAILABLE) == ("False", "ReplicasUnavailable")


@pytest.mark.parametrize("heard", [pytest.param(beat(age=46), id="old"), None])
def test_silence_makes_ready_unknown_and_keeps_the_worker_routable(heard: Beat | None) -> None:
    status = status_of(None, pod(ready=True), beats={A: heard} if heard else {})
    assert said(status, Type.READY) == ("Unknown", "HeartbeatStale")
    assert status["workers"][0]["state"] == "Ready"
    assert status["workers"][0]["heartbeat"] == "Stale"
    assert re.search("more than 45 s.*kubectl logs -n ns", condition(status, Type.READY)["message"])


@pytest.mark.parametrize(
    ("one", "heard"),
    [
        pytest.param(pod(ready=True), beat(), id="ready"),
        pytest.param(pod(ready=True), beat(age=100), id="stale"),
        pytest.param(pod(), beat(wire.LoadState.LOADING, progress=40), id="loading"),
        pytest.param(
            pod(),
            beat(wire.LoadState.FAILED, reason=wire.FailureReason.LOAD_FAILED, message="no"),
            id="failed",
        ),
    ],
)
def test_grace_keeps_what_was_known(one: dict[str, Any], heard: Beat) -> None:
    before = status_of(None, one, beats={A: heard})
    worker = modelworker(status=before)
    assert status_of(worker, one, beats={}, in_grace=True, now=LATER) == before


def test_grace_takes_what_is_heard() -> None:
    before = status_of(None, pod(), beats={A: beat(wire.LoadState.LOADING)})
    heard = {A: beat(wire.LoadState.WARMING)}
    status = status_of(modelworker(status=before), pod(), beats=heard, in_grace=True)
    assert status["workers"][0]["state"] == "Warming"


PROBLEMS = [
    Reason.INVALID_SPEC,
    Reason.CHILD_CONFLICT,
    Reason.APPLY_FORBIDDEN,
    Reason.APPLY_REJECTED,
]


@pytest.mark.parametrize("reason", PROBLEMS)
def test_problem_is_told_and_generation_does_not_move(reason: kube.Reason) -> None:
    before = status_of(None, pod(ready=True), beats={A: beat()})
    worker = modelworker(status=before, generation=2)
    problem = Problem(reason, "because; do this")
    status = status_of(worker, pod(ready=True), beats={A: beat()}, problem=problem)
    assert status["observedGeneration"] == 1
    assert said(status, Type.ACCEPTED) == said(status, Type.READY) == ("False", reason)
    assert condition(status, Type.ACCEPTED)["message"] == "because; do this"
    assert condition(status, Type.READY)["observedGeneration"] == 2
    assert condition(status, Type.AVAILABLE)["observedGeneration"] == 1
    assert said(status, Type.AVAILABLE) == ("True", "MinimumReplicasAvailable")
    assert status["workers"] == before["workers"]


def test_invalid_spec_of_an_object_that_never_was_valid() -> None:
    worker = identify(kube.MODELWORKER, raw_modelworker(model={}))
    problem = Problem(Reason.INVALID_SPEC, "spec.model.source is missing; set it")
    nothing = Observed(None, None, ())
    status = status_for(worker, nothing, {}, problem=problem, in_grace=False, now=NOW)
    assert "observedGeneration" not in status
    assert "url" not in status
    assert said(status, Type.PROGRESSING) == ("False", "InvalidSpec")
    assert status["workers"] == []


def test_foreign_deployment_of_the_same_name_is_not_ours() -> None:
    foreign = deployment()
    foreign["metadata"]["ownerReferences"] = []
    problem = Problem(Reason.CHILD_CONFLICT, "taken; rename it")
    observed = Observed(foreign, service(modelworker()), (pod(ready=True),))
    status = status_for(modelworker(), observed, {}, problem=problem, in_grace=False, now=NOW)
    assert (status["replicas"], status["readyReplicas"], status["workers"]) == (0, 0, [])
