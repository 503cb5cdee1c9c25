"""RMCall finds the workers of RewardModels through a real API server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelworker import (
    LM,
    AccessDenied,
    ModelWorkerNotFound,
    NotReady,
    Rejected,
    RMCall,
)
from modelworker_api import kube
from modelworker_devcluster import DevCluster
from tests.client_reward_support import scoring
from tests.client_support import good, workers
from tests.operator_manifests import manifest
from tests.operator_support import install_crds
from tests.support import eventually

Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def api(control_plane: DevCluster) -> DevCluster:
    """The control plane with the CRDs in it."""
    install_crds(control_plane)
    return control_plane


@pytest.fixture
def kubectl(api: DevCluster, control_plane_namespace: str) -> Kubectl:
    return lambda *arguments, **more: api.kubectl("-n", control_plane_namespace, *arguments, **more)


@pytest.fixture
def options(api: DevCluster, control_plane_namespace: str) -> dict[str, Any]:
    """How clients reach the namespace."""
    return {"kubeconfig": str(api.kubeconfig), "namespace": control_plane_namespace, "timeout": 20}


def create(kubectl: Kubectl, kind: kube.Kind, *ready: str, **status: Any) -> None:
    """An object named `prm` whose status lists these ready workers."""
    kubectl("create", "-f", "-", stdin=manifest(kind, {}, name="prm"))
    set_workers(kubectl, kind, *ready, **status)


def set_workers(kubectl: Kubectl, kind: kube.Kind, *ready: str, **status: Any) -> None:
    listed = [{"pod": f"pod-{i}", "address": one, "state": "Ready"} for i, one in enumerate(ready)]
    patch = json.dumps({"status": {"workers": listed, **status}})
    kubectl("patch", kind.short, "prm", "--subresource=status", "--type=merge", "-p", patch)


def condition(kind: str, reason: str, message: str) -> dict[str, Any]:
    stated = {"type": kind, "status": "False", "reason": reason, "message": message}
    return {"conditions": [{**stated, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}


def test_one_name_of_each_kind_leads_to_its_own_workers(
    kubectl: Kubectl, options: dict[str, Any]
) -> None:
    with workers(good, scoring, scoring) as (language, first, second):
        create(kubectl, kube.MODELWORKER, language.address)
        create(kubectl, kube.REWARDMODEL, first.address)
        with LM("prm", **options) as lm, RMCall("prm", **options) as client:
            assert lm.generate("x").worker == "pod-0"
            assert client.score(("q", "a")).worker == "pod-1"
            assert first.seen[0].body["model"] == f"{options['namespace']}/prm"
            set_workers(kubectl, kube.REWARDMODEL, first.address, second.address)
            eventually(lambda: len(client.workers()), until=lambda n: n == 2, what="both workers")
            scores = client.score([(f"q{i}", "a") for i in range(8)])
            assert {score.worker for score in scores} == {"pod-1", "pod-2"}


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        pytest.param(
            condition("Ready", "NonFiniteScore", "step 1 gave NaN"),
            NotReady,
            "RewardModel .*/prm has no ready worker: NonFiniteScore: step 1 gave NaN; "
            "`kubectl describe rwm prm",
            id="not-ready",
        ),
        pytest.param(
            condition("Accepted", "InvalidSpec", "no such family"),
            Rejected,
            "RewardModel .*/prm is not accepted: InvalidSpec: no such family",
            id="rejected",
        ),
    ],
)
def test_what_the_object_says(
    kubectl: Kubectl,
    options: dict[str, Any],
    status: dict[str, Any],
    kind: type[Exception],
    words: str,
) -> None:
    create(kubectl, kube.REWARDMODEL, **status)
    with RMCall("prm", ready_timeout=0.5, **options) as client, pytest.raises(kind, match=words):
        client.score(("q", "a"))


def test_a_modelworker_is_no_rewardmodel(kubectl: Kubectl, options: dict[str, Any]) -> None:
    create(kubectl, kube.MODELWORKER, "10.0.0.1:8000")
    with (
        RMCall("prm", **options) as client,
        pytest.raises(ModelWorkerNotFound, match=r"no RewardModel 'prm'.*`kubectl get rwm"),
    ):
        client.score(("q", "a"))


def test_missing_permission_names_the_resource(
    api: DevCluster, kubectl: Kubectl, options: dict[str, Any], tmp_path: Path
) -> None:
    kubectl("create", "serviceaccount", "nobody")
    raw = json.loads(api.kubectl("config", "view", "--raw", "-o=json"))
    token = kubectl("create", "token", "nobody").strip()
    raw["users"] = [{"name": "nobody", "user": {"token": token}}]
    raw["contexts"][0]["context"]["user"] = "nobody"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(raw))
    with (
        RMCall("prm", **options | {"kubeconfig": path}) as client,
        pytest.raises(AccessDenied, match=r"--resource=rewardmodels\.modelworker\.dev"),
    ):
        client.score(("q", "a"))
