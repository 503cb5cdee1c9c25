"""RewardModels on a real API server, beside ModelWorkers of the same names."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from modelworker_api import kube, rewards
from modelworker_devcluster import DevCluster
from tests.operator_pods import bind, post, run, token
from tests.operator_support import Audit, Objects, OperatorProcess, install_crds, operator
from tests.support import eventually

NAMESPACE = "rewards"
SCORING = {"family": "MathShepherd", "recipe_hash": "0a1b2c", "compared": True}


@pytest.fixture(scope="module")
def running(control_plane: DevCluster) -> Iterator[OperatorProcess]:
    """An operator for the namespace of this module."""
    install_crds(control_plane)
    control_plane.kubectl("create", "namespace", NAMESPACE)
    with operator(control_plane, NAMESPACE, environment={"LEADER_ELECT": "false"}) as process:
        yield process


@pytest.fixture
def models(running: OperatorProcess) -> Objects:
    return Objects(running.cluster, NAMESPACE, kube.REWARDMODEL)


@pytest.fixture
def workers(running: OperatorProcess) -> Objects:
    return Objects(running.cluster, NAMESPACE)


def variables(deployment: dict[str, Any]) -> dict[str, str]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item.get("value", "") for item in container["env"]}


def test_both_kinds_of_one_name_have_children_of_their_own(
    models: Objects, workers: Objects
) -> None:
    models.apply_worker("twin", scoring={"type": "Outcome", "family": "ArmoRM"})
    workers.apply_worker("twin", replicas=2)
    for objects in (models, workers):
        children = objects.wait_children("twin")
        found = objects.wait_reconciled("twin")
        short = objects.kind.short
        assert {child["metadata"]["name"] for child in children.values()} == {f"{short}-twin"}
        for child in children.values():
            (owner,) = child["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["uid"]) == (objects.kind.kind, found["metadata"]["uid"])
        assert found["status"]["url"] == f"http://{short}-twin.{NAMESPACE}.svc:8000"
    replicas = [
        objects.children("twin")["Deployment"]["spec"]["replicas"] for objects in (models, workers)
    ]
    assert replicas == [1, 2]

    models.kubectl("delete", "rwm", "twin")
    eventually(
        lambda: models.children("twin"),
        until=lambda seen: not seen,
        timeout=60,  # The garbage collector learns of a new kind twice a minute.
        what="no children of the RewardModel",
    )
    assert set(workers.children("twin")) == {"Deployment", "Service"}


def test_the_pod_is_told_how_to_score_and_a_change_rolls_out(models: Objects) -> None:
    custom: dict[str, Any] = {
        "template": {"text": "$$x$$ $(MODELWORKER_NAME) {question}\n{response}"},
        "step": {"tag": "ки"},
        "tokens": {"positive": "+", "negative": "-"},
        "position": "Tag",
        "link": "Softmax",
    }
    scoring = {"type": "Process", "family": "Custom", "custom": custom, "maxInputTokens": 512}
    models.apply_worker("custom", scoring=scoring)
    told = variables(models.wait_children("custom")["Deployment"])
    config = rewards.ScoringConfig.model_validate_json(told["MODELWORKER_SCORING"])
    assert config.custom is not None
    assert config.custom.text == custom["template"]["text"]
    assert told["MODELWORKER_MAX_MODEL_LEN"] == "512"

    models.apply_worker("custom", scoring={**scoring, "cache": {"maxTokens": 4096}})
    eventually(
        lambda: variables(models.children("custom")["Deployment"])["MODELWORKER_SCORING"],
        until=lambda text: json.loads(text).get("cache_tokens") == 4096,
        what="the new scoring in the Deployment",
    )


def test_changed_and_deleted_children_come_back(models: Objects) -> None:
    models.apply_worker("repaired")
    before = models.wait_children("repaired")["Service"]["metadata"]["uid"]
    models.wait_reconciled("repaired")
    models.kubectl("delete", "service", "rwm-repaired", "--wait=false")
    models.kubectl("set", "env", "deployment/rwm-repaired", "MODELWORKER_SCORING={}")

    def repaired() -> bool:
        children = models.children("repaired")
        return (
            children["Service"]["metadata"]["uid"] != before
            and "Process" in variables(children["Deployment"])["MODELWORKER_SCORING"]
        )

    eventually(repaired, timeout=10, what="both children as they should be")


def test_foreign_child_of_the_name_is_left_alone(models: Objects) -> None:
    models.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "rwm-taken"},
            "spec": {"ports": [{"port": 1234}]},
        }
    )
    models.apply_worker("taken")
    accepted = eventually(
        lambda: models.condition("taken", "Accepted"),
        until=lambda seen: seen.get("reason") == "ChildConflict",
        what="ChildConflict",
    )
    assert "give the RewardModel another name" in accepted["message"]


def test_scale(models: Objects) -> None:
    models.apply_worker("scaled")
    models.wait_children("scaled")
    models.kubectl("scale", "rwm", "scaled", "--replicas=0")
    ready = eventually(
        lambda: models.condition("scaled", "Ready"),
        until=lambda seen: seen.get("reason") == "ScaledToZero",
        what="ScaledToZero",
    )
    assert "kubectl scale rwm" in ready["message"]


def test_heartbeats_verify_the_scoring(models: Objects, running: OperatorProcess) -> None:
    models.apply_worker("judge")
    pod = eventually(
        lambda: models.get("pods", "-l", models.selector("judge"))["items"], what="a pod"
    )[0]["metadata"]["name"]
    bind(models, pod)
    run(models, pod)
    bearer = token(models, pod)
    assert models.condition("judge", "ScoringVerified")["reason"] == "NotTested"

    message = "'ки' is 2 tokens of this model"
    body = {"state": "Failed", "reason": "TokenNotInVocabulary", "message": message}
    assert post(running, bearer, body).status_code == 200
    failed = eventually(
        lambda: models.condition("judge", "ScoringVerified"),
        until=lambda seen: seen["status"] == "False",
        what="a self-test that failed",
    )
    assert (failed["reason"], message in failed["message"]) == ("TokenNotInVocabulary", True)
    assert models.condition("judge", "Ready")["reason"] == "TokenNotInVocabulary"

    run(models, pod, ready=True)
    assert post(running, bearer, {"state": "Ready", "scoring": SCORING}).status_code == 200
    passed = eventually(
        lambda: models.condition("judge", "ScoringVerified"),
        until=lambda seen: seen["status"] == "True",
        what="a self-test that passed",
    )
    assert passed["reason"] == "SelfTestPassed"
    assert models.status("judge")["scoring"] == {
        "family": "MathShepherd",
        "recipeHash": "0a1b2c",
        "compared": True,
    }
    row = models.kubectl("get", "rwm", "judge", "--no-headers").split()
    assert row[1:4] == ["judge", "Process", "MathShepherd"]

    audit = Audit(models.cluster)
    assert post(running, bearer, {"state": "Ready", "scoring": SCORING}).status_code == 200
    passes = 'controller_runtime_reconcile_total{controller="rewardmodel",result="success"}'
    before = running.metric(passes)
    models.kubectl("annotate", "rwm", "judge", "poke=1")
    eventually(lambda: running.metric(passes), until=lambda seen: seen > before, what="a pass")
    assert audit.brief("modelworker-operator") == []
    assert running.metric('modelworker_objects{kind="RewardModel"}') >= 1

    unknown = {**SCORING, "compared": False, "recipe_hash": "ffff"}
    assert post(running, bearer, {"state": "Ready", "scoring": unknown}).status_code == 200
    eventually(
        lambda: models.condition("judge", "ScoringVerified"),
        until=lambda seen: (seen["status"], seen["reason"]) == ("True", "RecipeNotCompared"),
        what="a recipe that was not compared",
    )
