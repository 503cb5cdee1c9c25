"""Events for what changed between two statuses."""

from typing import Any

import pytest

from modelworker_api import kube, wire
from modelworker_operator.status import Problem
from modelworker_operator.transitions import transitions
from tests.operator_objects import beat, deployment, modelworker, pod, status_of, terminated

A = "mw-smol-1-a"
Reason = kube.Reason

NEW: dict[str, Any] = {}
STARTED = status_of(None, pod(), live=deployment(updated=0, progressing="x"))
LOADING = status_of(None, pod(), beats={A: beat(wire.LoadState.LOADING, progress=5)})
FURTHER = status_of(None, pod(), beats={A: beat(wire.LoadState.LOADING, progress=50)})
READY = status_of(None, pod(ready=True), beats={A: beat()})
SILENT = status_of(None, pod(ready=True), beats={A: beat(age=100)})
FAILED = status_of(None, pod(state=terminated(1, "ModelNotFound: no /models/x")))
ZERO = status_of(modelworker(replicas=0))
CONFLICT = status_of(
    None,
    pod(ready=True),
    beats={A: beat()},
    problem=Problem(Reason.CHILD_CONFLICT, "taken; rename it"),
)


@pytest.mark.parametrize(
    ("old", "new", "events"),
    [
        pytest.param(
            NEW,
            STARTED,
            [("Normal", "Starting"), ("Normal", "RolloutInProgress")],
            id="created",
        ),
        pytest.param(STARTED, STARTED, [], id="nothing-changed"),
        pytest.param(LOADING, FURTHER, [], id="progress-is-no-event"),
        pytest.param(
            LOADING,
            READY,
            [("Normal", "AllReplicasReady"), ("Normal", "MinimumReplicasAvailable")],
            id="ready",
        ),
        pytest.param(READY, SILENT, [("Warning", "HeartbeatStale")], id="silent"),
        pytest.param(SILENT, READY, [("Normal", "AllReplicasReady")], id="heard-again"),
        pytest.param(
            READY,
            FAILED,
            [("Warning", "ModelNotFound"), ("Warning", "ReplicasUnavailable")],
            id="failed",
        ),
        pytest.param(READY, ZERO, [("Normal", "ScaledToZero")], id="one-event-for-one-reason"),
        pytest.param(READY, CONFLICT, [("Warning", "ChildConflict")], id="conflict"),
        pytest.param(READY, NEW, [], id="no-conditions"),
    ],
)
def test_events(old: dict[str, Any], new: dict[str, Any], events: list[tuple[str, str]]) -> None:
    assert [(one.type, one.reason.value) for one in transitions(old, new)] == events


def test_event_carries_the_message_of_ready() -> None:
    (event, _) = transitions(READY, FAILED)
    assert "no /models/x" in event.message


def test_becoming_valid_again_is_an_event() -> None:
    reasons = [event.reason for event in transitions(CONFLICT, READY)]
    assert Reason.VALID in reasons
