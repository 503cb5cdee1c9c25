"""Which values the chart refuses, and in which words."""

from typing import Any

import pytest

from tests.chart_support import CHART, Helm, Object


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"))


def refused(helm: Helm, values: Object) -> str:
    done = helm.run("template", "modelworker", str(CHART), *helm.values(values))
    assert done.returncode != 0, values
    assert done.stdout == ""
    return done.stderr


INJECTIONS = ('a"b', "a\nb: c", "a'b", "{{ .Values }}", "a b", "$(id)", "-a")


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize(
    "path",
    [
        "nameOverride",
        "fullnameOverride",
        "image.registry",
        "image.repository",
        "image.tag",
        "image.digest",
        "image.pullPolicy",
        "namespaces.0",
        "serviceAccount.name",
        "workers.image.tag",
        "workers.gpuResourceName",
        "workers.runtimeClassName",
        "workers.auth.mode",
        "workers.auth.namespaces.0",
        "workers.trustedRepositories.0",
        "controller.externalHosts.0",
        "logLevel",
        "priorityClassName",
        "metrics.serviceMonitor.interval",
        "podLabels.a",
        "nodeSelector.a",
        "imagePullSecrets.0.name",
        "resources.limits.memory",
        "extraArgs.0",
    ],
)
def test_schema_refuses_text_that_is_no_name(helm: Helm, path: str, text: str) -> None:
    value: Any = text
    for key in reversed(path.split(".")):
        value = [value] if key == "0" else {key: value}
    assert f"at '/{path.replace('.', '/')}'" in refused(helm, value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"imagee": {}}, "additional properties 'imagee' not allowed", id="unknown"),
        pytest.param(
            {"workers": {"auth": {"modus": "Token"}}},
            "at '/workers/auth': additional properties 'modus' not allowed",
            id="unknown-inside",
        ),
        pytest.param({"image": None}, "missing property 'image'", id="section-taken-out"),
        pytest.param({"namespaces": None}, "missing property 'namespaces'", id="list-taken-out"),
        pytest.param(
            {"workers": {"auth": {"mode": None}}},
            "at '/workers/auth': missing property 'mode'",
            id="value-taken-out",
        ),
        pytest.param({"replicaCount": -1}, "minimum: got -1, want 0", id="negative"),
        pytest.param({"replicaCount": "2"}, "got string, want integer", id="text-for-number"),
        pytest.param({"replicaCount": 1.5}, "got number, want integer", id="fraction"),
        pytest.param({"resyncSeconds": 0}, "minimum: got 0, want 1", id="never"),
        pytest.param({"runAsUser": 0}, "at '/runAsUser': minimum: got 0, want 1", id="root"),
        pytest.param({"crds": {"keep": "yes"}}, "got string, want boolean", id="text-for-bool"),
        pytest.param({"namespaces": "research"}, "got string, want array", id="text-for-list"),
        pytest.param({"namespaces": ["a", "a"]}, "at '/namespaces': items", id="twice"),
        pytest.param({"image": {"tag": 1.0}}, "got number, want string", id="tag-number"),
        pytest.param({"image": {"tag": "latest"}}, "image.tag is latest", id="latest"),
        pytest.param(
            {"workers": {"image": {"tag": "latest"}}},
            "workers.image.tag is latest",
            id="worker-latest",
        ),
        pytest.param(
            {"resources": {"limits": {"memory": "-1Gi"}}}, "/resources/limits/memory", id="memory"
        ),
        pytest.param(
            {"workers": {"auth": {"mode": "None", "required": True}}},
            "set mode to Token, or required to false",
            id="auth-contradiction",
        ),
        pytest.param(
            {"workers": {"trustedRepositories": ["org/model@main"]}},
            "does not match pattern",
            id="trusted-branch",
        ),
        pytest.param(
            {"controller": {"enabled": True, "allowExternal": True}},
            "controller.allowExternal and controller.externalHosts need each other",
            id="external-without-hosts",
        ),
        pytest.param(
            {"controller": {"namespaces": ["a"]}}, "set it to true", id="controller-disabled"
        ),
        pytest.param(
            {"namespaces": ["a"], "controller": {"enabled": True, "namespaces": ["b"]}},
            "controller.namespaces has b, which namespaces has not",
            id="controller-namespace",
        ),
        pytest.param(
            {"controller": {"enabled": True, "port": 8086}}, "controller.port is 8086", id="port"
        ),
        pytest.param(
            {"podDisruptionBudget": {"minAvailable": 1}}, "set the other to null", id="budget"
        ),
        pytest.param(
            {"networkPolicy": {"workers": {"enabled": True}}},
            "needs networkPolicy.workers.namespaces",
            id="policy-nowhere",
        ),
        pytest.param(
            {"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}},
            "needs the Service of metrics.service.enabled",
            id="monitor-of-nothing",
        ),
        pytest.param(
            {"commonLabels": {"app.kubernetes.io/name": "x"}},
            "commonLabels has app.kubernetes.io/name",
            id="reserved-label",
        ),
        pytest.param(
            {"extraEnv": [{"name": "MODELWORKER_OPERATOR_WORKER_AUTH", "value": "none"}]},
            "extraEnv has MODELWORKER_OPERATOR_WORKER_AUTH, which the chart sets itself",
            id="own-variable",
        ),
        pytest.param(
            {"extraObjects": [{"kind": "ConfigMap"}]}, "missing properties", id="no-object"
        ),
    ],
)
def test_refused(helm: Helm, values: Object, message: str) -> None:
    assert message in refused(helm, values)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"controller": {"enabled": True}, "namespaces": ["a"]}, id="controller"),
    ],
)
def test_lint(helm: Helm, values: Object) -> None:
    assert "0 chart(s) failed" in helm.good("lint", "--strict", str(CHART), *helm.values(values))
