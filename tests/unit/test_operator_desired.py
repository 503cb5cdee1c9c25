"""The children as values."""

from typing import Any

import pytest

from modelworker_api import kube
from modelworker_devcluster.kubelet.environment import expand
from modelworker_operator.desired import Manifest, desired_children
from modelworker_operator.spec import parse
from tests.operator_objects import CONFIG, UID, modelworker, raw_modelworker

LABELS = {
    "app.kubernetes.io/managed-by": "modelworker",
    "modelworker.dev/kind": "ModelWorker",
    "modelworker.dev/name": "smol",
}
SELECTOR = {key: LABELS[key] for key in ("modelworker.dev/kind", "modelworker.dev/name")}
OWNER = {
    "apiVersion": "modelworker.dev/v1alpha1",
    "kind": "ModelWorker",
    "name": "smol",
    "uid": UID,
    "controller": True,
    "blockOwnerDeletion": True,
}
HUB = {"repo": "a/b", "revision": "abc"}


def children(**spec: Any) -> tuple[Manifest, Manifest]:
    deployment, service = desired_children(modelworker(**spec), CONFIG)
    return deployment, service


def pod_spec(**spec: Any) -> Manifest:
    template: Manifest = children(**spec)[0]["spec"]["template"]["spec"]
    return template


def container(**spec: Any) -> Manifest:
    found: Manifest = pod_spec(**spec)["containers"][0]
    return found


def env_of(**spec: Any) -> dict[str, Any]:
    return {
        item["name"]: item.get("value", item.get("valueFrom")) for item in container(**spec)["env"]
    }


def hashes(**spec: Any) -> list[str]:
    return [
        child["metadata"]["annotations"][kube.ANNOTATION_DESIRED_HASH] for child in children(**spec)
    ]


def test_whole_service() -> None:
    service = children()[1]
    service["metadata"].pop("annotations")
    assert service == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "mw-smol",
            "namespace": "ns",
            "labels": LABELS,
            "ownerReferences": [OWNER],
        },
        "spec": {
            "type": "ClusterIP",
            "selector": SELECTOR,
            "ports": [{"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def test_whole_deployment() -> None:
    deployment = children()[0]
    deployment["metadata"].pop("annotations")
    spec = deployment["spec"]["template"].pop("spec")
    assert deployment == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "mw-smol",
            "namespace": "ns",
            "labels": LABELS,
            "ownerReferences": [OWNER],
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": SELECTOR},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "minReadySeconds": 10,
            "progressDeadlineSeconds": 3600,
            "revisionHistoryLimit": 2,
            "template": {"metadata": {"labels": LABELS}},
        },
    }
    worker = spec["containers"][0]
    environment = worker.pop("env")
    assert spec == {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 80,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "worker",
                "image": "local/worker:1",
                "command": ["python", "-m", "modelworker_server"],
                "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
                "startupProbe": {
                    "httpGet": {"path": "/healthz", "port": "http"},
                    "periodSeconds": 2,
                    "failureThreshold": 300,
                    "timeoutSeconds": 5,
                },
                "readinessProbe": {
                    "httpGet": {"path": "/readyz", "port": "http"},
                    "periodSeconds": 2,
                    "failureThreshold": 5,
                    "timeoutSeconds": 5,
                },
                "livenessProbe": {
                    "httpGet": {"path": "/healthz", "port": "http"},
                    "periodSeconds": 10,
                    "failureThreshold": 6,
                    "timeoutSeconds": 5,
                },
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/tmp"},
                    {
                        "name": "heartbeat-token",
                        "mountPath": "/var/run/secrets/modelworker.dev/heartbeat",
                        "readOnly": True,
                    },
                    {"name": "model", "mountPath": "/models", "readOnly": True},
                ],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {
                "name": "heartbeat-token",
                "projected": {
                    "sources": [
                        {
                            "serviceAccountToken": {
                                "audience": "modelworker.dev/heartbeat",
                                "expirationSeconds": 3600,
                                "path": "token",
                            }
                        }
                    ]
                },
            },
            {
                "name": "model",
                "persistentVolumeClaim": {"claimName": "models", "readOnly": True},
            },
        ],
    }
    assert {item["name"]: item.get("value") for item in environment} == {
        "MODELWORKER_POD_NAME": None,
        "MODELWORKER_POD_UID": None,
        "MODELWORKER_POD_IP": None,
        "MODELWORKER_NAME": "smol",
        "MODELWORKER_NAMESPACE": "ns",
        "MODELWORKER_SERVED_NAME": "smol",
        "MODELWORKER_SOURCE": "local",
        "MODELWORKER_MODEL": "/models/smollm2",
        "MODELWORKER_BACKEND": "transformers",
        "MODELWORKER_DTYPE": "auto",
        "MODELWORKER_MAX_RUNNING": "32",
        "MODELWORKER_MAX_QUEUED": "256",
        "MODELWORKER_HOST": "0.0.0.0",
        "MODELWORKER_PORT": "8000",
        "MODELWORKER_AUTH": "token",
        "MODELWORKER_HEARTBEAT_URL": "http://operator:8085",
        "MODELWORKER_HEARTBEAT_INTERVAL_SECONDS": "10",
        "MODELWORKER_HEARTBEAT_TOKEN_FILE": "/var/run/secrets/modelworker.dev/heartbeat/token",
        "MODELWORKER_DRAIN_SECONDS": "60",
        "MODELWORKER_TERMINATION_LOG": "/dev/termination-log",
        "HOME": "/tmp",
        "USER": "worker",
    }


def test_pod_fields_come_before_what_refers_to_them() -> None:
    names = [item["name"] for item in container()["env"]]
    assert names.index("MODELWORKER_POD_IP") < names.index("MODELWORKER_HOST")


def test_hub_source() -> None:
    source = {"huggingFace": HUB}
    env = env_of(model={"source": source, "ggufFile": "a.gguf", "maxModelLen": 512})
    assert env["MODELWORKER_SOURCE"] == "huggingFace"
    assert env["MODELWORKER_MODEL"] == "a/b"
    assert env["MODELWORKER_REVISION"] == "abc"
    assert env["MODELWORKER_GGUF_FILE"] == "a.gguf"
    assert env["MODELWORKER_MAX_MODEL_LEN"] == "512"
    assert env["HF_HOME"] == "/cache/huggingface"
    assert env["HF_HUB_DISABLE_IMPLICIT_TOKEN"] == "1"
    assert "HF_TOKEN" not in env
    assert {"name": "cache", "emptyDir": {}} in pod_spec(model={"source": source})["volumes"]


def test_hub_token_goes_by_reference() -> None:
    hub = {**HUB, "tokenSecretRef": {"name": "s", "key": "k"}, "endpoint": "https://h"}
    env = env_of(model={"source": {"huggingFace": hub}})
    assert env["HF_TOKEN"] == {"secretKeyRef": {"name": "s", "key": "k"}}
    assert env["HF_ENDPOINT"] == "https://h"
    assert "HF_HUB_DISABLE_IMPLICIT_TOKEN" not in env


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        pytest.param({"pvc": {"claimName": "c"}}, "/models", id="root"),
        pytest.param({"pvc": {"claimName": "c", "path": "a/b/"}}, "/models/a/b", id="folder"),
        pytest.param({"hostPath": {"path": "/data/m"}}, "/models", id="host-path"),
    ],
)
def test_local_source(source: dict[str, Any], folder: str) -> None:
    assert env_of(model={"source": source})["MODELWORKER_MODEL"] == folder


@pytest.mark.parametrize("name", ["a$(MODELWORKER_NAME)", "a$$b", "a$b$", "$$(X)"])
def test_names_of_files_are_not_expanded(name: str) -> None:
    source = {"pvc": {"claimName": "c", "path": name}}
    env = env_of(model={"source": source, "ggufFile": f"{name}.gguf"})
    assert expand(env["MODELWORKER_MODEL"], env) == f"/models/{name}"
    assert expand(env["MODELWORKER_GGUF_FILE"], env) == f"{name}.gguf"


def test_host_path_has_to_exist() -> None:
    volumes = pod_spec(model={"source": {"hostPath": {"path": "/data/m"}}})["volumes"]
    assert {"name": "model", "hostPath": {"path": "/data/m", "type": "Directory"}} in volumes


def test_gpus_are_limits_and_replace_worker_by_worker() -> None:
    spec = {"gpu": {"count": 2, "resourceName": "amd.com/gpu"}, "resources": {"limits": {"cpu": 4}}}
    assert container(**spec)["resources"] == {"limits": {"cpu": "4", "amd.com/gpu": "2"}}
    strategy = children(**spec)[0]["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 0, "maxUnavailable": 1}


def test_threads_follow_the_cpu_limit_unless_told() -> None:
    limits = {"resources": {"limits": {"cpu": "2"}}}
    assert env_of(**limits)["OMP_NUM_THREADS"] == {
        "resourceFieldRef": {"containerName": "worker", "resource": "limits.cpu"}
    }
    assert (
        env_of(**limits, env=[{"name": "OMP_NUM_THREADS", "value": "1"}])["OMP_NUM_THREADS"] == "1"
    )
    assert "OMP_NUM_THREADS" not in env_of()


def test_a_worker_has_a_name_and_a_home_that_it_can_write_to() -> None:
    """Whatever user the pod gets, the image's or one of the cluster's that no image knows."""
    assert (env_of()["HOME"], env_of()["USER"]) == ("/tmp", "worker")
    mine = env_of(env=[{"name": "HOME", "value": "/home/me"}])
    assert (mine["HOME"], mine["USER"]) == ("/home/me", "worker")
    assert len(container(env=[{"name": "USER", "value": "me"}])["env"]) == len(container()["env"])


def test_environment_of_the_user_comes_last() -> None:
    assert container(env=[{"name": "X", "value": "$(MODELWORKER_NAME)"}])["env"][-1] == {
        "name": "X",
        "value": "$(MODELWORKER_NAME)",
    }


def test_scheduling_and_image_are_handed_on() -> None:
    scheduling = {
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "priorityClassName": "high",
        "schedulerName": "volcano",
        "runtimeClassName": "nvidia",
    }
    spec = pod_spec(
        scheduling=scheduling,
        image="i:1",
        imagePullPolicy="Never",
        imagePullSecrets=[{"name": "s"}],
    )
    assert {key: spec[key] for key in scheduling} == scheduling
    assert spec["imagePullSecrets"] == [{"name": "s"}]
    assert spec["containers"][0]["image"] == "i:1"
    assert spec["containers"][0]["imagePullPolicy"] == "Never"


def test_grace_period_covers_the_drain() -> None:
    assert pod_spec(drain={"timeoutSeconds": 300})["terminationGracePeriodSeconds"] == 320


def test_same_input_same_output() -> None:
    assert children() == children()
    assert hashes() == hashes()


def test_status_and_generation_do_not_matter() -> None:
    raw = raw_modelworker(status={"replicas": 1}, generation=9)
    raw["metadata"]["resourceVersion"] = "8"
    assert desired_children(parse(kube.MODELWORKER, raw), CONFIG) == children()


def test_labels_and_annotations_of_the_object_are_no_part_of_the_children() -> None:
    raw = raw_modelworker()
    raw["metadata"] |= {"labels": dict.fromkeys(LABELS, "other"), "annotations": {"a": "b" * 999}}
    assert desired_children(parse(kube.MODELWORKER, raw), CONFIG) == children()


def test_hash_tells_what_changed() -> None:
    assert hashes()[0] != hashes(replicas=2)[0]
    assert hashes()[1] == hashes(replicas=2)[1]
