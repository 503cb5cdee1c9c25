"""`status`: one look that says why something is not ready."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from modelworker.cli._advice import NEXT_STEPS
from modelworker.cli._app import run
from modelworker_api import kube
from modelworker_api.kube import Reason
from tests.cli_support import (
    EVENTS,
    OBJECTS,
    PODS,
    Clock,
    body,
    condition,
    forbidden,
    interrupt,
    pod,
    seen,
    world,
)

LOADING = body(
    "policy",
    reason="Loading",
    message="1 of 2 workers ready: pod p-2: Loading",
    replicas=2,
    gpu={"count": 1},
    workers=[
        {"pod": "p-1", "state": "Ready", "address": "10.0.0.1:8000"},
        {"pod": "p-2", "state": "Loading", "progress": 40},
    ],
    others=[condition("Progressing", "True", "RolloutInProgress", "1 of 2 run it")],
)
EVENT = {
    "metadata": {"namespace": "ns", "creationTimestamp": seen(30)},
    "regarding": {"kind": "Pod", "name": "p-2"},
    "type": "Warning",
    "reason": "BackOff",
    "note": "Back-off restarting\ncontainer",
    "deprecatedCount": 3,
}
STRANGER = {**EVENT, "regarding": {"kind": "Pod", "name": "other"}}
READY = body("prm", kube.REWARDMODEL, workers=[{"pod": "r-1", "state": "Ready"}])


def cluster(*bodies: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A cluster with these objects, their pods and an Event."""
    return {
        **{
            OBJECTS[kind]: [one for one in bodies if one["kind"] == kind.kind]
            for kind in kube.KINDS
        },
        PODS: [pod("p-1", "policy"), pod("p-2", "policy", restarts=3)],
        EVENTS: [EVENT, STRANGER],
        **more,
    }


def test_one_look_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "policy"], world(cluster(LOADING, READY))) == 1
    assert capsys.readouterr().out.splitlines() == [
        "mw/policy in ns: 1 of 2 workers ready, Loading",
        "  model         pvc:models/policy, Transformers, 1 GPUs each",
        "  why           1 of 2 workers ready: pod p-2: Loading",
        "  Progressing   RolloutInProgress: 1 of 2 run it",
        "  next          kubectl modelworker status mw/policy -n ns -w",
        "  WORKER   STATE     PROGRESS   NODE     RESTARTS   AGE",
        "  p-1      Ready     -          node-1   0          60s",
        "  p-2      Loading   40%        node-1   3          60s",
        "  SEEN      TYPE      EVENT     OF        MESSAGE",
        "  30s ago   Warning   BackOff   pod/p-2   Back-off restarting container (3 times)",
    ]


def test_table_of_all_with_details_of_what_is_not_ready(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["status"], world(cluster(LOADING, READY))) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "NAME        READY   REASON             MODEL               GPUS   AGE",
        "mw/policy   1/2     Loading            pvc:models/policy   1      60m",
        "rwm/prm     1/1     AllReplicasReady   pvc:models/prm      0      60m",
        "",
        "mw/policy in ns: 1 of 2 workers ready, Loading",
    ]
    assert not [line for line in lines if line.startswith("rwm/prm in")]


@pytest.mark.parametrize(
    ("one", "code", "words"),
    [
        pytest.param(READY, 0, "AllReplicasReady", id="ready"),
        pytest.param(
            body("prm", kube.REWARDMODEL, reason=None), 1, "is the operator running?", id="nothing"
        ),
        pytest.param(
            body("prm", kube.REWARDMODEL, observed=0),
            1,
            "the operator has not seen the newest spec yet; before: all is well",
            id="an-older-spec-was-ready",
        ),
        pytest.param(
            body(
                "prm",
                kube.REWARDMODEL,
                others=[condition("Accepted", "False", "InvalidSpec", "spec.model is wrong")],
                ready=False,
            ),
            1,
            "InvalidSpec",
            id="not-accepted-comes-before-all",
        ),
    ],
)
def test_code_says_whether_it_is_ready(
    capsys: pytest.CaptureFixture[str], one: Mapping[str, Any], code: int, words: str
) -> None:
    assert run(["status", "prm"], world(cluster(one))) == code
    assert words in capsys.readouterr().out


def test_data(capsys: pytest.CaptureFixture[str]) -> None:
    answers = cluster(LOADING, READY)
    assert run(["status", "-o", "json"], world(answers)) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["ready"]) for one in found["items"]] == [
        ("policy", False),
        ("prm", True),
    ]
    policy = found["items"][0]
    assert policy["workers"][1] == {
        "pod": "p-2",
        "state": "Loading",
        "progress": 40,
        "node": "node-1",
        "restarts": 3,
    }
    assert "nextStep" not in found["items"][1]
    run(["status", "-o", "yaml"], world(answers))
    assert yaml.safe_load(capsys.readouterr().out) == found
    run(["status", "-o", "name"], world(answers))
    assert capsys.readouterr().out.splitlines() == [
        f"modelworker.{kube.GROUP}/policy",
        f"rewardmodel.{kube.GROUP}/prm",
    ]


def test_what_may_not_be_read_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    answers = cluster(READY, **{PODS: forbidden(), EVENTS: forbidden("events is forbidden")})
    assert run(["status", "prm"], world(answers)) == 0
    said = capsys.readouterr()
    assert "r-1" in said.out
    assert said.err.splitlines() == [
        "warning: pods cannot be looked at: pods is forbidden",
        "warning: events cannot be looked at: events is forbidden",
    ]


def test_nothing_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status"], world(cluster())) == 0
    said = capsys.readouterr()
    assert (said.out, said.err.split(";")[0]) == (
        "",
        "no ModelWorker or RewardModel in namespace ns",
    )


def test_watch_prints_a_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal: what does not change is not repeated."""
    answers = cluster(LOADING)
    clock = Clock()
    clock.at[3] = lambda: answers.update(cluster(body("policy")))
    clock.at[7] = lambda: answers.update(cluster())
    clock.at[9] = interrupt
    holder = world({path: (lambda path=path: answers[path]) for path in answers}, clock=clock)
    assert run(["status", "-w"], holder) == 130
    assert capsys.readouterr().out.splitlines() == [
        "mw/policy 1/2 Loading: 1 of 2 workers ready: pod p-2: Loading [p-2 Loading 40%]",
        "mw/policy 0/1 AllReplicasReady: all is well [p-1 Running, p-2 Running]",
        "mw/policy is gone",
    ]


def test_watch_is_not_for_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "-w", "-o", "json"], world()) == 2
    assert "leave -o json out" in capsys.readouterr().err


GOOD = {
    Reason.VALID,
    Reason.MINIMUM_REPLICAS_AVAILABLE,
    Reason.REPLICAS_UNAVAILABLE,
    Reason.ROLLOUT_COMPLETE,
    Reason.ADAPTERS_LOADED,
    Reason.ADAPTERS_LOADING,
    Reason.ADAPTER_FAILED,
    Reason.ALL_REPLICAS_READY,
    Reason.SELF_TEST_PASSED,
    Reason.RECIPE_NOT_COMPARED,
    Reason.NOT_TESTED,
}
"""Reasons that neither `Accepted=False` nor `Ready=False` carries."""


def test_every_reason_has_a_next_step() -> None:
    assert set(NEXT_STEPS) == set(Reason) - GOOD
