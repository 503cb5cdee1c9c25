"""What the chart's values change: names, images, rights, the operator's settings.

Each case has values, what to look at in the objects that Helm makes of them, and what is there.
"""

import json

import pytest

from tests.chart_support import SYSTEM, container, kinds, one, pod, settings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = f"sha256:{'ab' * 32}"

CASES = [
    pytest.param(
        {"nameOverride": "mw"},
        lambda all_: one(all_, "Deployment")["metadata"]["name"],
        "modelworker-mw-operator",
        id="nameOverride",
    ),
    pytest.param(
        {"fullnameOverride": "team"},
        lambda all_: (
            one(all_, "Service", "operator")["metadata"]["name"],
            settings(all_)["HEARTBEAT_URL"],
            settings(all_)["PUBLISH_SERVICE"],
            settings(all_)["LEASE_NAME"],
            one(all_, "Role", "leader")["rules"][0]["resourceNames"],
        ),
        (
            "team-operator",
            f"http://team-operator.{SYSTEM}.svc:8085",
            "team-operator",
            "team-operator",
            ["team-operator"],
        ),
        id="fullnameOverride",
    ),
    pytest.param(
        {"commonLabels": {"team": "search"}},
        lambda all_: {each["metadata"]["labels"].get("team") for each in all_},
        {"search"},
        id="commonLabels",
    ),
    pytest.param(
        {"image": {"registry": "r.example.com:5000/mirror", "repository": "a/b", "tag": "1.2"}},
        lambda all_: container(all_)["image"],
        "r.example.com:5000/mirror/a/b:1.2",
        id="image",
    ),
    pytest.param(
        {"image": {"digest": DIGEST}},
        lambda all_: (container(all_)["image"], one(all_, "Pod")["spec"]["containers"][0]["image"]),
        (f"modelworker/operator:0.1.0@{DIGEST}",) * 2,
        id="image.digest",
    ),
    pytest.param(
        {"image": {"pullPolicy": "Always"}},
        lambda all_: container(all_)["imagePullPolicy"],
        "Always",
        id="image.pullPolicy",
    ),
    pytest.param(
        {"imagePullSecrets": [{"name": "registry"}]},
        lambda all_: pod(all_)["imagePullSecrets"],
        [{"name": "registry"}],
        id="imagePullSecrets",
    ),
    pytest.param(
        {"replicaCount": 3},
        lambda all_: one(all_, "Deployment")["spec"]["replicas"],
        3,
        id="replicaCount",
    ),
    pytest.param(
        {"namespaces": ["a", "b"]},
        lambda all_: (
            settings(all_)["NAMESPACES"],
            sorted(each["metadata"]["namespace"] for each in all_ if each["kind"] == "RoleBinding"),
            [each["metadata"]["name"] for each in all_ if each["kind"] == "ClusterRoleBinding"],
        ),
        ("a,b", ["a", "b", SYSTEM], [f"{SYSTEM}:modelworker-operator-heartbeats"]),
        id="namespaces",
    ),
    pytest.param(
        {"crds": {"install": False}},
        lambda all_: "CustomResourceDefinition" in kinds(all_),
        False,
        id="crds.install",
    ),
    pytest.param(
        {"crds": {"keep": False}},
        lambda all_: one(all_, "CustomResourceDefinition", "modelworkers.modelworker.dev")[
            "metadata"
        ].get("annotations"),
        None,
        id="crds.keep",
    ),
    pytest.param(
        {"rbac": {"create": False, "aggregate": False}},
        lambda all_: {kind for kind in kinds(all_) if "Role" in kind},
        set(),
        id="rbac.create",
    ),
    pytest.param(
        {"rbac": {"aggregate": False}},
        lambda all_: sum("aggregate" in json.dumps(each) for each in all_),
        0,
        id="rbac.aggregate",
    ),
    pytest.param(
        {"rbac": {"finalizers": True}},
        lambda all_: (
            "modelworkers/finalizers"
            in json.dumps(one(all_, "ClusterRole", ":modelworker-operator"))
        ),
        True,
        id="rbac.finalizers",
    ),
    pytest.param(
        {"serviceAccount": {"create": False, "name": "mine"}},
        lambda all_: (
            "ServiceAccount" in kinds(all_),
            pod(all_)["serviceAccountName"],
            one(all_, "RoleBinding", "leader")["subjects"][0]["name"],
        ),
        (False, "mine", "mine"),
        id="serviceAccount.name",
    ),
    pytest.param(
        {"serviceAccount": {"annotations": {"a": "b"}}},
        lambda all_: one(all_, "ServiceAccount")["metadata"]["annotations"],
        {"a": "b"},
        id="serviceAccount.annotations",
    ),
    pytest.param(
        {
            "workers": {
                "image": {
                    "registry": "r.example.com",
                    "repository": "a/worker",
                    "tag": "2",
                    "digest": DIGEST,
                }
            }
        },
        lambda all_: settings(all_)["WORKER_IMAGE"],
        f"r.example.com/a/worker:2@{DIGEST}",
        id="workers.image",
    ),
    pytest.param(
        {"workers": {"imagePullSecrets": [{"name": "one"}, {"name": "two"}]}},
        lambda all_: settings(all_)["WORKER_IMAGE_PULL_SECRETS"],
        "one,two",
        id="workers.imagePullSecrets",
    ),
    pytest.param(
        {"workers": {"gpuResourceName": "amd.com/gpu", "runtimeClassName": "nvidia"}},
        lambda all_: [
            settings(all_)[name] for name in ("WORKER_GPU_RESOURCE_NAME", "WORKER_RUNTIME_CLASS")
        ],
        ["amd.com/gpu", "nvidia"],
        id="workers.gpu",
    ),
    pytest.param(
        {"workers": {"auth": {"mode": "None"}}},
        lambda all_: settings(all_)["WORKER_AUTH"],
        "none",
        id="workers.auth.mode",
    ),
    pytest.param(
        {"workers": {"auth": {"required": True, "namespaces": ["search", "rl"]}}},
        lambda all_: [
            settings(all_)[f"WORKER_AUTH{end}"] for end in ("", "_REQUIRED", "_NAMESPACES")
        ],
        ["token", "true", "search,rl"],
        id="workers.auth",
    ),
    pytest.param(
        {"workers": {"trustedRepositories": [f"org/model@{COMMIT}"]}},
        lambda all_: settings(all_)["TRUSTED_REPOSITORIES"],
        f"org/model@{COMMIT}",
        id="workers.trustedRepositories",
    ),
    pytest.param(
        {
            "namespaces": ["a"],
            "controller": {
                "enabled": True,
                "port": 9000,
                "namespaces": ["a"],
                "allowExternal": True,
                "externalHosts": ["10.1.0.0/16", "gpu.example.com"],
            },
        },
        lambda all_: (
            {
                name: value
                for name, value in settings(all_).items()
                if name.startswith("CONTROLLER_")
            },
            one(all_, "Service", "operator")["spec"]["ports"][1]["port"],
            container(all_)["ports"][2]["containerPort"],
        ),
        (
            {
                "CONTROLLER_HOST": "0.0.0.0",
                "CONTROLLER_PORT": "9000",
                "CONTROLLER_NAMESPACES": "a",
                "CONTROLLER_ALLOW_EXTERNAL": "true",
                "CONTROLLER_EXTERNAL_HOSTS": "10.1.0.0/16,gpu.example.com",
            },
            9000,
            9000,
        ),
        id="controller",
    ),
    pytest.param(
        {"logLevel": "debug", "resyncSeconds": 10000, "reconcileWorkers": 3},
        lambda all_: [settings(all_)[name] for name in ("LOG_LEVEL", "RESYNC_SECONDS", "WORKERS")],
        ["debug", "10000", "3"],
        id="logLevel-resyncSeconds-reconcileWorkers",
    ),
]
