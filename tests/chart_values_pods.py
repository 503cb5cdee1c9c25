"""What the chart's values change: pods, disruptions, networks, metrics, what is added.

Each case has values, what to look at in the objects that Helm makes of them, and what is there.
"""

import json
from typing import Any

import pytest

from tests.chart_support import Object, container, kinds, one, pod


def rule(objects: list[Object]) -> Object:
    found: Object = one(objects, "NetworkPolicy", "operator")["spec"]
    return found


def workers_policy(objects: list[Object]) -> Object:
    found: Object = one(objects, "NetworkPolicy", "workers")["spec"]
    return found


def ports_of(rules: list[Object]) -> set[int]:
    return {port["port"] for one in rules for port in one["ports"]}


CONTROLLER = {"controller": {"enabled": True}}
POLICY = {"networkPolicy": {"enabled": True}}
SPREAD = {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}


def workers_may(**given: Any) -> Object:
    return {"networkPolicy": {"workers": {"enabled": True, "namespaces": ["a"], **given}}}


def metrics(**given: Any) -> Object:
    return {"metrics": {name: {"enabled": True, **more} for name, more in given.items()}}


CASES = [
    pytest.param(
        {"resources": {"limits": {"memory": "1Gi", "cpu": 2}}},
        lambda all_: container(all_)["resources"]["limits"],
        {"memory": "1Gi", "cpu": 2},
        id="resources",
    ),
    pytest.param(
        {"runAsUser": None},
        lambda all_: sorted(pod(all_)["securityContext"]),
        ["runAsNonRoot", "seccompProfile"],
        id="runAsUser",
    ),
    pytest.param(
        {
            "nodeSelector": {"pool": "system"},
            "tolerations": [{"key": "system", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "system-cluster-critical",
        },
        lambda all_: [
            pod(all_)[name]
            for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName")
        ],
        [
            {"pool": "system"},
            [{"key": "system", "operator": "Exists"}],
            {"nodeAffinity": {}},
            "system-cluster-critical",
        ],
        id="scheduling",
    ),
    pytest.param(
        {"topologySpreadConstraints": [SPREAD]},
        lambda all_: pod(all_)["topologySpreadConstraints"],
        [
            {
                **SPREAD,
                "labelSelector": {
                    "matchLabels": {
                        "app.kubernetes.io/name": "modelworker",
                        "app.kubernetes.io/instance": "modelworker",
                        "app.kubernetes.io/component": "operator",
                    }
                },
            }
        ],
        id="topologySpreadConstraints",
    ),
    pytest.param(
        {"topologySpreadConstraints": [{**SPREAD, "labelSelector": {"matchLabels": {"a": "b"}}}]},
        lambda all_: pod(all_)["topologySpreadConstraints"][0]["labelSelector"],
        {"matchLabels": {"a": "b"}},
        id="topologySpreadConstraints-own-selector",
    ),
    pytest.param(
        {"podLabels": {"a": "b"}, "podAnnotations": {"c": 'say "{{ hi }}"\nagain'}},
        lambda all_: (
            one(all_, "Deployment")["spec"]["template"]["metadata"]["labels"]["a"],
            one(all_, "Deployment")["spec"]["template"]["metadata"]["annotations"],
        ),
        ("b", {"c": 'say "{{ hi }}"\nagain'}),
        id="podLabels-podAnnotations",
    ),
    pytest.param(
        {"podDisruptionBudget": {"enabled": False}},
        lambda all_: "PodDisruptionBudget" in kinds(all_),
        False,
        id="podDisruptionBudget.enabled",
    ),
    pytest.param(
        {"podDisruptionBudget": {"maxUnavailable": None, "minAvailable": "50%"}},
        lambda all_: {
            key: value
            for key, value in one(all_, "PodDisruptionBudget")["spec"].items()
            if key.endswith("vailable")
        },
        {"minAvailable": "50%"},
        id="podDisruptionBudget.minAvailable",
    ),
    pytest.param(
        {**POLICY, "namespaces": ["a"]},
        lambda all_: (
            ports_of(rule(all_)["ingress"]),
            ports_of(rule(all_)["egress"]),
            rule(all_)["ingress"][0]["from"][0]["namespaceSelector"]["matchExpressions"][0][
                "values"
            ],
        ),
        ({8085, 8086}, {53, 443, 6443}, ["a"]),
        id="networkPolicy.enabled",
    ),
    pytest.param(
        {"networkPolicy": {"enabled": True, "apiServerPorts": [16443]}},
        lambda all_: ports_of(rule(all_)["egress"]),
        {53, 16443},
        id="networkPolicy.apiServerPorts",
    ),
    pytest.param(
        {"networkPolicy": {"enabled": True, "metricsNamespaces": ["monitoring"]}},
        lambda all_: "monitoring" in json.dumps(rule(all_)["ingress"][1]["from"]),
        True,
        id="networkPolicy.metricsNamespaces",
    ),
    pytest.param(
        {
            **CONTROLLER,
            "networkPolicy": {
                "enabled": True,
                "controllerFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            },
        },
        lambda all_: (
            rule(all_)["ingress"][2],
            8000 in ports_of(rule(all_)["egress"]),
        ),
        (
            {
                "ports": [{"port": 21001, "protocol": "TCP"}],
                "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            },
            True,
        ),
        id="networkPolicy.controllerFrom",
    ),
    pytest.param(
        workers_may(),
        lambda all_: (
            one(all_, "NetworkPolicy", "workers")["metadata"]["namespace"],
            workers_policy(all_)["ingress"],
            ports_of(workers_policy(all_)["egress"]),
        ),
        (
            "a",
            [{"from": [{"podSelector": {}}], "ports": [{"port": 8000, "protocol": "TCP"}]}],
            {53, 8085, 443},
        ),
        id="networkPolicy.workers",
    ),
    pytest.param(
        {**workers_may(), **CONTROLLER},
        lambda all_: len(workers_policy(all_)["ingress"][0]["from"]),
        2,
        id="networkPolicy.workers-controller",
    ),
    pytest.param(
        workers_may(
            hub=False,
            egress=[{"ports": [{"port": 3128, "protocol": "TCP"}]}],
            **{"from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]},
        ),
        lambda all_: (
            workers_policy(all_)["ingress"][0]["from"][1],
            ports_of(workers_policy(all_)["egress"]),
        ),
        ({"namespaceSelector": {"matchLabels": {"a": "b"}}}, {53, 8085, 3128}),
        id="networkPolicy.workers.from-egress-hub",
    ),
    pytest.param(
        {"metrics": {"service": {"enabled": False}}},
        lambda all_: (
            [each["metadata"]["name"] for each in all_ if each["kind"] == "Service"],
            len(one(all_, "Pod")["spec"]["containers"][0]["args"]),
        ),
        (["modelworker-operator"], 1),
        id="metrics.service.enabled",
    ),
    pytest.param(
        metrics(service={"annotations": {"a": "b"}}),
        lambda all_: one(all_, "Service", "metrics")["metadata"]["annotations"],
        {"a": "b"},
        id="metrics.service.annotations",
    ),
    pytest.param(
        metrics(serviceMonitor={"interval": "1m", "labels": {"release": "prometheus"}}),
        lambda all_: (
            one(all_, "ServiceMonitor")["metadata"]["labels"]["release"],
            one(all_, "ServiceMonitor")["spec"]["endpoints"],
            one(all_, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
            <= one(all_, "Service", "metrics")["metadata"]["labels"].items(),
        ),
        ("prometheus", [{"port": "health", "path": "/metrics", "interval": "1m"}], True),
        id="metrics.serviceMonitor",
    ),
    pytest.param(
        metrics(podMonitor={"interval": "10s", "labels": {"release": "prometheus"}}),
        lambda all_: (
            one(all_, "PodMonitor")["metadata"]["labels"]["release"],
            one(all_, "PodMonitor")["spec"]["podMetricsEndpoints"],
            one(all_, "PodMonitor")["spec"]["namespaceSelector"],
        ),
        ("prometheus", [{"port": "http", "path": "/metrics", "interval": "10s"}], {"any": True}),
        id="metrics.podMonitor",
    ),
    pytest.param(
        metrics(prometheusRule={"labels": {"release": "prometheus"}}),
        lambda all_: one(all_, "PrometheusRule")["metadata"]["labels"]["release"],
        "prometheus",
        id="metrics.prometheusRule",
    ),
    pytest.param(
        metrics(dashboard={"labels": {"sidecar": "yes"}, "annotations": {"folder": "LLM"}}),
        lambda all_: (
            one(all_, "ConfigMap")["metadata"]["labels"]["sidecar"],
            one(all_, "ConfigMap")["metadata"]["annotations"],
            json.loads(one(all_, "ConfigMap")["data"]["modelworker.json"])["title"],
        ),
        ("yes", {"folder": "LLM"}, "modelworker"),
        id="metrics.dashboard",
    ),
    pytest.param(
        {"extraEnv": [{"name": "HTTPS_PROXY", "value": '"{{ x }}"\n'}]},
        lambda all_: container(all_)["env"][-1],
        {"name": "HTTPS_PROXY", "value": '"{{ x }}"\n'},
        id="extraEnv",
    ),
    pytest.param(
        {"extraArgs": ["--health-host=::"]},
        lambda all_: container(all_)["args"],
        ["--health-host=::"],
        id="extraArgs",
    ),
    pytest.param(
        {
            "extraObjects": [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "mine", "labels": {}},
                    "data": {"a": "{{ .Values }}"},
                }
            ]
        },
        lambda all_: one(all_, "ConfigMap", "mine")["data"],
        {"a": "{{ .Values }}"},
        id="extraObjects",
    ),
]
