"""The API server takes every manifest of the chart, in a namespace that enforces `restricted`."""

from collections.abc import Iterator

import pytest
import yaml

from modelworker_devcluster import DevCluster
from tests.chart_support import RESTRICTED, Helm, Object, by_name
from tests.support import eventually

MONITORING = ("ServiceMonitor", "PodMonitor", "PrometheusRule")
SYSTEM, OTHER = "chart-taken", "chart-taken-users"

EVERYTHING: Object = {
    "namespaces": ["default", OTHER],
    "commonLabels": {"team": "search"},
    "imagePullSecrets": [{"name": "registry"}],
    "rbac": {"finalizers": True},
    "serviceAccount": {"annotations": {"a": "b"}},
    "workers": {
        "imagePullSecrets": [{"name": "registry"}],
        "runtimeClassName": "nvidia",
        "auth": {"required": True, "namespaces": ["*"]},
        "trustedRepositories": [f"org/model@{'0' * 40}"],
    },
    "controller": {
        "enabled": True,
        "namespaces": ["default"],
        "allowExternal": True,
        "externalHosts": ["10.1.0.0/16"],
    },
    "resources": {"limits": {"memory": "1Gi", "cpu": 1.5}},
    "runAsUser": None,
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}
            ]
        }
    },
    "podLabels": {"a": "b"},
    "podAnnotations": {"a": "b"},
    "podDisruptionBudget": {"maxUnavailable": None, "minAvailable": "50%"},
    "networkPolicy": {
        "enabled": True,
        "metricsNamespaces": ["monitoring"],
        "controllerFrom": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
        "workers": {
            "enabled": True,
            "from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}], "ports": [{"port": 3128}]}],
        },
    },
    "metrics": {
        "service": {"annotations": {"a": "b"}},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True, "annotations": {"folder": "LLM"}},
    },
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}],
    "extraArgs": ["--health-host=::"],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}}],
}


def monitoring_crd(kind: str) -> Object:
    """A stand-in for the CRD of the Prometheus operator."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "names": {"kind": kind, "plural": plural},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


@pytest.fixture(scope="module")
def api(control_plane: DevCluster) -> DevCluster:
    """The control plane with kinds of the Prometheus operator."""
    crds = [monitoring_crd(kind) for kind in MONITORING]
    control_plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(crds))
    eventually(
        lambda: control_plane.kubectl(
            "api-resources", "--api-group=monitoring.coreos.com", "-oname"
        ),
        until=lambda served: len(served.split()) == len(crds),
        what="served kinds",
    )
    return control_plane


@pytest.fixture(scope="module")
def helm(api: DevCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    """Helm for a namespace that enforces `restricted`, beside one of users."""
    api.kubectl("create", "namespace", SYSTEM)
    api.kubectl("create", "namespace", OTHER)
    api.kubectl("label", "namespace", SYSTEM, *RESTRICTED)
    yield Helm(tmp_path_factory.mktemp("helm"), namespace=SYSTEM)
    api.kubectl("delete", "namespace", SYSTEM, OTHER, "--wait=false")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="defaults"),
        pytest.param(EVERYTHING, id="everything"),
        pytest.param(
            {
                "crds": {"keep": False},
                "rbac": {"create": False, "aggregate": False},
                "serviceAccount": {"create": False},
                "podDisruptionBudget": {"enabled": False},
                "metrics": {"service": {"enabled": False}},
                "topologySpreadConstraints": [],
                "resources": {"limits": None, "requests": None},
            },
            id="least",
        ),
        pytest.param(
            {
                "networkPolicy": {
                    "enabled": True,
                    "workers": {"enabled": True, "namespaces": [OTHER]},
                }
            },
            id="policies",
        ),
    ],
)
def test_taken_by_the_api_server(helm: Helm, api: DevCluster, values: Object) -> None:
    """Every manifest, by server-side dry run with strict fields, without a warning."""
    objects = helm.template(values)
    done = api.kubectl(
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "--warnings-as-errors",
        "-f",
        "-",
        "-o=name",
        stdin=yaml.safe_dump_all(objects),
    )
    assert len(done.split()) == len(by_name(objects))
