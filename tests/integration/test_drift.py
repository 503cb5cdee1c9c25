"""Right after an apply nothing differs: zero writes at rest, proven on a real API server."""

import json
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from modelworker_api import kube
from modelworker_devcluster import DevCluster
from modelworker_operator.desired import Manifest, desired_children
from modelworker_operator.drift import conflicting_owner, needs_apply
from modelworker_operator.spec import PvcSource, WorkerObject, parse
from tests.operator_objects import CONFIG, raw_modelworker
from tests.operator_support import install_crds

APPLY = (
    "apply",
    "--server-side",
    "--force-conflicts",
    f"--field-manager={kube.FIELD_MANAGER}",
    "-o=json",
    "-f",
    "-",
)
HUB = {"repo": "a/b", "revision": "abc", "tokenSecretRef": {"name": "s"}, "endpoint": "http://h"}

SPECS: list[Any] = [
    pytest.param({}, id="least"),
    pytest.param({"model": {"source": {"huggingFace": HUB}, "maxModelLen": 512}}, id="hub"),
    pytest.param({"model": {"source": {"hostPath": {"path": "/data/m"}}}}, id="host-path"),
    pytest.param({"replicas": 0}, id="zero"),
    pytest.param({"gpu": {"count": 2}}, id="gpu"),
    pytest.param(
        {
            "resources": {
                "requests": {"cpu": "0.1", "memory": "1024Mi", "ephemeral-storage": "1e9"},
                "limits": {"cpu": "1000m", "memory": "1.5Gi", "ephemeral-storage": "1E"},
            }
        },
        id="quantities-in-other-forms",
    ),
    pytest.param(
        {"resources": {"requests": {"cpu": 1}, "limits": {"cpu": 2, "memory": "0.5G"}}},
        id="quantities-as-numbers",
    ),
    pytest.param(
        {
            "env": [
                {"name": "EMPTY", "value": ""},
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {
                    "name": "B",
                    "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": False}},
                },
                {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {
                    "name": "D",
                    "valueFrom": {
                        "resourceFieldRef": {"resource": "limits.cpu", "divisor": "0.001"}
                    },
                },
                {"name": "E"},
            ],
            "resources": {"limits": {"cpu": "2"}},
        },
        id="env",
    ),
    pytest.param(
        {
            "image": "registry.example.com/worker",
            "imagePullPolicy": "Always",
            "imagePullSecrets": [{"name": "b"}, {"name": "a"}],
        },
        id="image",
    ),
    pytest.param(
        {
            "scheduling": {
                "nodeSelector": {"pool": "gpu"},
                "tolerations": [
                    {"operator": "Exists"},
                    {"key": "a", "value": "", "effect": "NoExecute", "tolerationSeconds": 0},
                ],
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {
                                    "matchExpressions": [
                                        {"key": "zone", "operator": "In", "values": ["a", "b"]}
                                    ],
                                    "matchFields": [],
                                }
                            ]
                        }
                    },
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {
                                "weight": 1,
                                "podAffinityTerm": {
                                    "topologyKey": "kubernetes.io/hostname",
                                    "namespaceSelector": {},
                                    "labelSelector": {"matchLabels": {}},
                                },
                            }
                        ]
                    },
                },
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": "zone",
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": {"a": "b"}},
                    },
                    {"maxSkew": 2, "topologyKey": "host", "whenUnsatisfiable": "DoNotSchedule"},
                ],
                "priorityClassName": "high",
                "schedulerName": "volcano",
                "runtimeClassName": "nvidia",
            }
        },
        id="scheduling",
    ),
    pytest.param({"drain": {"timeoutSeconds": 0}}, id="no-drain"),
]


@pytest.fixture(scope="module")
def api(control_plane: DevCluster) -> DevCluster:
    """The control plane with the CRD in it."""
    install_crds(control_plane)
    return control_plane


def stored(api: DevCluster, namespace: str, spec: dict[str, Any]) -> WorkerObject:
    """A ModelWorker that exists: children of one that does not are collected as garbage."""
    raw = raw_modelworker(**spec)
    raw["metadata"] = {"name": "smol", "namespace": namespace}
    answer = api.kubectl("create", "-o=json", "-f", "-", stdin=json.dumps(raw))
    return parse(kube.MODELWORKER, json.loads(answer))


def apply(cluster: DevCluster, manifest: Manifest) -> Manifest:
    live: Manifest = json.loads(cluster.kubectl(*APPLY, stdin=json.dumps(manifest)))
    return live


def get(cluster: DevCluster, manifest: Manifest) -> Manifest:
    meta = manifest["metadata"]
    live: Manifest = json.loads(
        cluster.kubectl("get", manifest["kind"], meta["name"], "-n", meta["namespace"], "-o=json")
    )
    return live


@pytest.mark.parametrize("spec", SPECS)
def test_nothing_differs_after_an_apply(
    api: DevCluster, control_plane_namespace: str, spec: dict[str, Any]
) -> None:
    worker = stored(api, control_plane_namespace, spec)
    for desired in desired_children(worker, CONFIG):
        live = apply(api, desired)
        assert not needs_apply(desired, live)
        assert not needs_apply(desired, get(api, desired))
        assert conflicting_owner(worker, live) is None
        # The same apply changes nothing, not even the version.
        again = apply(api, desired)
        assert again["metadata"].get("generation") == live["metadata"].get("generation")


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param({"spec": {"replicas": 4}}, id="replicas"),
        pytest.param({"spec": {"minReadySeconds": None}}, id="field-removed"),
        pytest.param({"metadata": {"labels": {kube.LABEL_MANAGED_BY: "x"}}}, id="label"),
        pytest.param(
            {
                "spec": {
                    "template": {
                        "spec": {
                            "containers": [
                                {
                                    "name": kube.WORKER_CONTAINER,
                                    "image": "other",
                                    "env": [{"name": "THEIRS", "value": "1"}],
                                }
                            ]
                        }
                    }
                }
            },
            id="image",
        ),
    ],
)
def test_an_edit_is_repaired_and_foreign_fields_are_kept(
    api: DevCluster, control_plane_namespace: str, patch: dict[str, Any]
) -> None:
    desired = desired_children(stored(api, control_plane_namespace, {}), CONFIG)[0]
    apply(api, desired)
    meta = desired["metadata"]
    place = ("deployment", meta["name"], "-n", meta["namespace"])
    api.kubectl("patch", *place, "-p", json.dumps(patch))
    api.kubectl("annotate", *place, "team=search")
    edited = get(api, desired)
    assert needs_apply(desired, edited)
    repaired = apply(api, desired)
    assert not needs_apply(desired, repaired)
    assert repaired["metadata"]["annotations"]["team"] == "search"
    theirs = [
        item["name"]
        for item in repaired["spec"]["template"]["spec"]["containers"][0]["env"]
        if item["name"] == "THEIRS"
    ]
    assert theirs == (["THEIRS"] if "image" in json.dumps(patch) else [])


def test_pods_pass_the_restricted_standard(api: DevCluster, control_plane_namespace: str) -> None:
    api.kubectl(
        "label",
        "namespace",
        control_plane_namespace,
        "pod-security.kubernetes.io/enforce=restricted",
        "pod-security.kubernetes.io/warn=restricted",
    )
    worker = stored(api, control_plane_namespace, {"model": {"source": {"huggingFace": HUB}}})
    on_pvc = replace(worker.spec.model, source=PvcSource("models", ""))
    for model in (worker.spec.model, on_pvc):
        spec = replace(worker.spec, model=model)
        desired = desired_children(replace(worker, spec=spec), CONFIG)[0]
        done = subprocess.run(
            [str(api.binaries / "kubectl"), *APPLY],
            env={
                "KUBECONFIG": str(api.kubeconfig),
                "KUBECACHEDIR": str(api.directory / "kubectl-cache"),
            },
            input=json.dumps(desired),
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Warning" not in done.stderr
