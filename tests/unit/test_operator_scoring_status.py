"""ScoringVerified and `status.scoring` of a RewardModel."""

from collections.abc import Mapping
from typing import Any

import pytest

from modelworker_api import kube, wire
from modelworker_operator.spec import WorkerObject
from modelworker_operator.status import Beat, Problem
from modelworker_operator.transitions import transitions
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
)

A, B = "rwm-smol-1-a", "rwm-smol-1-b"
Load = wire.LoadState
Type = kube.ConditionType
NO_TOKEN = "TokenNotInVocabulary: 'ки' is 2 tokens: 1, 2"


def report(
    digest: str = "0a1b", *, family: str = "MathShepherd", compared: bool = True
) -> wire.ScoringReport:
    return wire.ScoringReport(family=family, recipe_hash=digest, compared=compared)


def worker(replicas: int = 1, status: Mapping[str, Any] | None = None) -> WorkerObject:
    return rewardmodel(replicas=replicas, status=status)


def reward_pod(name: str, **fields: Any) -> dict[str, Any]:
    return pod(name, owner="rwm-smol-1", **fields)


def scored(**fields: Any) -> Beat:
    return beat(scoring=report(**fields))


def status(
    pods: Mapping[str, tuple[dict[str, Any], Beat | None]],
    before: Mapping[str, Any] | None = None,
    **given: Any,
) -> dict[str, Any]:
    """The status with pods by name, each with its heartbeat."""
    found = [reward_pod(name, **fields) for name, (fields, _) in pods.items()]
    beats = {name: said for name, (_, said) in pods.items() if said}
    return status_of(worker(max(1, len(pods)), before), *found, beats=beats, **given)


READY: dict[str, Any] = {"ready": True}


@pytest.mark.parametrize(
    ("pods", "verdict", "words"),
    [
        pytest.param({}, ("Unknown", "NotTested"), "no worker is ready", id="no-worker"),
        pytest.param(
            {A: ({}, beat(Load.WARMING))},
            ("Unknown", "NotTested"),
            "tests itself when it starts",
            id="warming",
        ),
        pytest.param(
            {A: (READY, scored())},
            ("True", "SelfTestPassed"),
            "1 of 1 ready workers passed the self-test of MathShepherd 0a1b",
            id="passed",
        ),
        pytest.param(
            {A: (READY, scored()), B: ({}, beat(Load.LOADING))},
            ("True", "SelfTestPassed"),
            "1 of 1 ready",
            id="another-is-loading",
        ),
        pytest.param(
            {A: (READY, scored()), B: (READY, None)},
            ("Unknown", "NotTested"),
            "1 of 2 ready workers have not said",
            id="one-is-silent",
        ),
        pytest.param(
            {A: (READY, beat())},
            ("Unknown", "NotTested"),
            "1 of 1 ready workers have not said",
            id="an-image-that-does-not-score",
        ),
        pytest.param(
            {A: (READY, scored(compared=False, family="ArmoRM"))},
            ("True", "RecipeNotCompared"),
            "ArmoRM was not compared with its reference formula",
            id="not-compared",
        ),
        pytest.param(
            {A: (READY, scored()), B: (READY, scored(digest="ffff"))},
            ("True", "SelfTestPassed"),
            "MathShepherd 0a1b (1), MathShepherd ffff (1); they score by 2 recipes",
            id="mixed",
        ),
        *(
            pytest.param(
                {A: ({}, beat(Load.FAILED, reason=reason, message="step 1 of 2"))},
                ("False", reason),
                f"pod {A}: step 1 of 2; set",
                id=reason,
            )
            for reason in (
                "TokenNotInVocabulary",
                "ScoreShapeMismatch",
                "NonFiniteScore",
                "BatchMismatch",
            )
        ),
        pytest.param(
            {A: ({"state": terminated(1, NO_TOKEN)}, None)},
            ("False", "TokenNotInVocabulary"),
            "'ки' is 2 tokens: 1, 2; set the spec.scoring.family",
            id="last-word",
        ),
        pytest.param(
            {A: (READY, scored()), B: ({"state": terminated(1, NO_TOKEN)}, None)},
            ("False", "TokenNotInVocabulary"),
            f"pod {B}",
            id="the-newest-spec-fails",
        ),
        pytest.param(
            {A: ({"state": terminated(1, "ModelNotFound: no /models/x")}, None)},
            ("Unknown", "NotTested"),
            "no worker is ready",
            id="never-came-to-the-test",
        ),
    ],
)
def test_scoring_verified(
    pods: Mapping[str, tuple[dict[str, Any], Beat | None]], verdict: tuple[str, str], words: str
) -> None:
    seen = status(pods)
    one = condition(seen, Type.SCORING_VERIFIED)
    assert (one["status"], one["reason"]) == verdict
    assert words in one["message"]
    if one["status"] == "False":
        assert condition(seen, Type.READY)["reason"] == one["reason"]


@pytest.mark.parametrize(
    ("pods", "scoring"),
    [
        pytest.param({A: ({}, beat(Load.LOADING))}, None, id="none-ready"),
        pytest.param({A: ({}, scored())}, None, id="not-ready"),
        pytest.param(
            {A: (READY, scored())},
            {"family": "MathShepherd", "recipeHash": "0a1b", "compared": True},
            id="one",
        ),
        pytest.param(
            {A: (READY, scored()), B: (READY, scored(digest="ffff"))},
            {"family": "MathShepherd", "compared": True},
            id="differing-fields-are-left-out",
        ),
    ],
)
def test_status_scoring(
    pods: Mapping[str, tuple[dict[str, Any], Beat | None]], scoring: dict[str, Any] | None
) -> None:
    assert status(pods).get("scoring") == scoring


def test_restarted_operator_keeps_what_it_knew() -> None:
    """It has not heard of any worker yet."""
    before = status({A: (READY, scored())})
    after = status({A: (READY, None)}, before, in_grace=True, now=LATER)
    assert after == before


@pytest.mark.parametrize("message", ["step 1 of 2", "step 1: 3 scores; 2 steps"])
def test_restarted_operator_keeps_a_failure(message: str) -> None:
    failed = beat(Load.FAILED, reason="ScoreShapeMismatch", message=message)
    before = status({A: ({}, failed)})
    after = status({A: ({}, None)}, before, in_grace=True, now=LATER)
    assert after == before


def test_problem_leaves_the_verdict_at_the_generation_that_was_applied() -> None:
    before = status({A: (READY, scored())})
    newer = rewardmodel(status=before, generation=2)
    problem = Problem(kube.Reason.INVALID_SPEC, "spec.scoring.type is missing; set it")
    seen = status_of(newer, reward_pod(A, ready=True), beats={A: scored()}, problem=problem)
    verified = condition(seen, Type.SCORING_VERIFIED)
    assert (verified["status"], verified["observedGeneration"]) == ("True", 1)
    assert condition(seen, Type.READY)["observedGeneration"] == 2


def test_a_modelworker_has_no_such_condition() -> None:
    seen = status_of(modelworker(), pod(ready=True), beats={"mw-smol-1-a": scored()})
    assert {one["type"] for one in seen["conditions"]} == {
        "Accepted",
        "Available",
        "Progressing",
        "Ready",
    }
    assert "scoring" not in seen


def test_commands_in_messages_name_the_kind() -> None:
    zero = status_of(worker(0), live=deployment(worker(0)))
    assert "`kubectl scale rwm -n ns smol" in condition(zero, Type.READY)["message"]
    long = beat(Load.FAILED, reason="ModelTooLong", message="4096 at most")
    assert (
        "lower spec.scoring.maxInputTokens"
        in (condition(status({A: ({}, long)}), Type.READY)["message"])
    )


@pytest.mark.parametrize(
    ("old", "new", "events"),
    [
        pytest.param({}, {A: ({}, None)}, [("Normal", "Starting")], id="created"),
        pytest.param(
            {A: ({}, beat(Load.WARMING))},
            {A: (READY, scored())},
            [
                ("Normal", "AllReplicasReady"),
                ("Normal", "SelfTestPassed"),
                ("Normal", "MinimumReplicasAvailable"),
            ],
            id="passed",
        ),
        pytest.param(
            {A: ({}, beat(Load.WARMING))},
            {A: ({}, beat(Load.FAILED, reason="NonFiniteScore", message="NaN at step 1"))},
            [("Warning", "NonFiniteScore")],
            id="failed-is-said-once",
        ),
    ],
)
def test_events(
    old: Mapping[str, Any], new: Mapping[str, Any], events: list[tuple[str, str]]
) -> None:
    before = status(old) if old else {}
    found = [(one.type, one.reason.value) for one in transitions(before, status(new))]
    assert [one for one in found if one[1] != "RolloutComplete"] == events
