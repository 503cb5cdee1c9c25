"""Rights, users and file systems of what the chart installs, and what its notes say."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests import audit
from tests.chart_support import CHART, RELEASE, Helm, Object, container, one, pod
from tests.operator_rights import CLUSTER, OWN, SERVED, documented

VALUES = [
    pytest.param({}, id="cluster"),
    pytest.param({"namespaces": ["a", "b"]}, id="namespaces"),
    pytest.param({"rbac": {"finalizers": True}}, id="finalizers"),
]


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"))


def roles(objects: list[Object]) -> list[Object]:
    return [each for each in objects if each["kind"] in ("Role", "ClusterRole")]


@pytest.mark.parametrize("values", VALUES)
def test_no_wildcard_and_no_secret(helm: Helm, values: Mapping[str, Any]) -> None:
    granted = audit.granted(roles(helm.template(values)))
    assert len(granted) > 15
    for right in granted:
        assert "*" not in (right.group, right.verb)
        assert not re.search(r"\*|secret|exec|attach|portforward", right.resource)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        pytest.param({}, None, id="cluster"),
        pytest.param({"namespaces": ["a", "b"]}, ("a", "b"), id="namespaces"),
    ],
)
def test_rights_are_those_of_the_documentation(
    helm: Helm, values: Mapping[str, Any], where: tuple[str, ...] | None
) -> None:
    objects = helm.template(values)
    rights = documented()
    assert audit.granted([one(objects, "Role", "-leader")]) == rights[OWN]
    assert audit.granted([one(objects, "ClusterRole", "-heartbeats")]) == rights[CLUSTER]
    given = [each for each in roles(objects) if each["metadata"]["name"].endswith("-operator")]
    assert [audit.granted([each]) for each in given] == [rights[SERVED]] * len(given)
    if where:
        assert tuple(each["metadata"]["namespace"] for each in given) == where
    else:
        assert [each["kind"] for each in given] == ["ClusterRole"]


def test_finalizers_are_the_one_addition(helm: Helm) -> None:
    plain = audit.granted(roles(helm.template()))
    more = audit.granted(roles(helm.template({"rbac": {"finalizers": True}})))
    assert {str(right) for right in more - plain} == {
        "update modelworkers/finalizers.modelworker.dev",
        "update rewardmodels/finalizers.modelworker.dev",
    }


def test_every_role_is_bound_or_aggregated(helm: Helm) -> None:
    objects = helm.template({"namespaces": ["a"]})
    bound = {
        (each["roleRef"]["kind"], each["metadata"].get("namespace"), each["roleRef"]["name"])
        for each in objects
        if each["kind"].endswith("RoleBinding")
    }
    for role in roles(objects):
        meta = role["metadata"]
        aggregated = any("aggregate-to" in key for key in meta["labels"])
        assert aggregated != ((role["kind"], meta.get("namespace"), meta["name"]) in bound)


@pytest.mark.parametrize("kind", ["Deployment", "Pod"])
def test_pods_are_restricted(helm: Helm, kind: str) -> None:
    objects = helm.template()
    spec = pod(objects) if kind == "Deployment" else one(objects, "Pod")["spec"]
    (only,) = spec["containers"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is (kind == "Deployment")
    assert spec["enableServiceLinks"] is False


def test_the_only_place_to_write_is_limited(helm: Helm) -> None:
    objects = helm.template()
    assert container(objects)["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert pod(objects)["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]


def test_account_gives_its_token_to_no_other_pod(helm: Helm) -> None:
    assert one(helm.template(), "ServiceAccount")["automountServiceAccountToken"] is False


def test_service_of_the_leader_selects_nobody(helm: Helm) -> None:
    assert "selector" not in one(helm.template(), "Service", "-operator")["spec"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param({}, "kubectl apply --namespace default", id="defaults"),
        pytest.param(
            {"namespaces": ["rl"]}, "kubectl get mw smollm2 --namespace rl", id="namespace"
        ),
        pytest.param(
            {"controller": {"enabled": True}},
            "http://modelworker-operator.modelworker-system.svc:21001",
            id="controller",
        ),
        pytest.param(
            {"workers": {"auth": {"mode": "None"}}}, "whoever reaches a worker may call", id="open"
        ),
        pytest.param({"crds": {"install": False}}, "crds.install is false", id="no-crds"),
        pytest.param({"rbac": {"create": False}}, "the rights of docs/operator.md", id="no-rbac"),
    ],
)
def test_notes_have_the_next_three_commands(
    helm: Helm, values: Mapping[str, Any], says: str
) -> None:
    arguments = ("install", RELEASE, str(CHART), "--dry-run=client")
    notes = helm.good(*arguments, *helm.values(values)).partition("NOTES:")[2]
    assert says in notes
    commands = re.findall(r"^ +((?:kubectl|helm test) .*)", notes, re.MULTILINE)
    assert len(commands) == 3
    assert all("--namespace" in command for command in commands)
