"""Workers under the restricted Pod Security Standard, as the API server judges it."""

import json
from typing import Any, Final
from uuid import uuid4

import pytest

from modelworker_devcluster import DevCluster
from modelworker_devcluster.errors import KubectlFailed
from modelworker_operator.config import Config
from modelworker_operator.desired import Manifest, desired_children
from modelworker_operator.spec import WorkerObject
from tests.operator_objects import CONFIG, modelworker, rewardmodel

HUB: Final = {"huggingFace": {"repo": "a/b", "revision": "abc", "tokenSecretRef": {"name": "hub"}}}
EVERYTHING: Final[dict[str, Any]] = {
    "model": {"source": HUB},
    "backend": "VLLM",
    "gpu": {"count": 4},
    "parallelism": {"tensor": 4},
    "vllm": {"developmentRoutes": {"tokenSecretRef": {"name": "trainer"}}},
    "lora": {"adapters": [{"name": "math", "huggingFace": {"repo": "a/c", "revision": "abc"}}]},
    "imagePullSecrets": [{"name": "registry"}],
    "resources": {"limits": {"cpu": "4", "memory": "8Gi"}},
    "env": [{"name": "X", "value": "1"}],
    "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}]},
}
REFERENCE: Final[dict[str, Any]] = {
    "family": "EurusPRM",
    "implicit": {"referenceModel": {"source": {"pvc": {"claimName": "reference"}}}},
}
WORKERS: Final = [
    pytest.param(modelworker(), CONFIG, id="least"),
    pytest.param(modelworker(**EVERYTHING), CONFIG, id="everything"),
    pytest.param(rewardmodel(scoring=REFERENCE), CONFIG, id="reward-model"),
    pytest.param(
        modelworker(gpu={"count": 1}),
        Config(
            namespace="system",
            worker_image_pull_secrets=("a", "b"),
            worker_gpu_resource_name="amd.com/gpu",
            worker_auth="none",
        ),
        id="settings",
    ),
]


@pytest.fixture(scope="module")
def restricted(control_plane: DevCluster) -> str:
    """A namespace that enforces the standard, and warns of what does not keep to it."""
    name = f"restricted-{uuid4().hex[:6]}"
    control_plane.kubectl("create", "namespace", name)
    control_plane.kubectl(
        "label",
        "namespace",
        name,
        *(f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn", "audit")),
    )
    return name


def judge(cluster: DevCluster, namespace: str, manifest: dict[str, Any]) -> None:
    """Have the API server look at a manifest; a warning fails as a refusal does."""
    meta = {**manifest["metadata"], "namespace": namespace}
    # A Deployment's owner need not exist for this.
    meta.pop("ownerReferences", None)
    text = json.dumps({**manifest, "metadata": meta})
    cluster.kubectl(
        "create", "--dry-run=server", "--warnings-as-errors", "-n", namespace, "-f", "-", stdin=text
    )


def pod_of(deployment: Manifest) -> Manifest:
    """A pod as the Deployment makes it."""
    template = deployment["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "labels": template["metadata"]["labels"]},
        "spec": template["spec"],
    }


@pytest.mark.parametrize(("worker", "config"), WORKERS)
def test_no_warning_and_no_refusal(
    control_plane: DevCluster, restricted: str, worker: WorkerObject, config: Config
) -> None:
    deployment, service = desired_children(worker, config)
    for manifest in (deployment, service, pod_of(deployment)):
        judge(control_plane, restricted, manifest)


@pytest.mark.parametrize(
    ("kind", "said"), [("Deployment", "would violate PodSecurity"), ("Pod", "violates PodSecurity")]
)
def test_a_folder_of_the_node_is_outside_of_it(
    control_plane: DevCluster, restricted: str, kind: str, said: str
) -> None:
    worker = modelworker(model={"source": {"hostPath": {"path": "/models"}}})
    deployment, _ = desired_children(worker, CONFIG)
    manifest = deployment if kind == "Deployment" else pod_of(deployment)
    with pytest.raises(KubectlFailed) as refused:
        judge(control_plane, restricted, manifest)
    assert said in str(refused.value)
    assert "hostPath" in str(refused.value)


@pytest.mark.parametrize(("worker", "config"), WORKERS)
def test_every_path_that_is_written_is_a_volume(worker: WorkerObject, config: Config) -> None:
    """The root file system is read-only: homes and caches are in volumes that are not."""
    spec = desired_children(worker, config)[0]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    empty = {volume["name"] for volume in spec["volumes"] if "emptyDir" in volume}
    writable = [
        mount["mountPath"]
        for mount in container["volumeMounts"]
        if mount["name"] in empty and not mount.get("readOnly")
    ]
    env = {one["name"]: one.get("value", "") for one in container["env"]}
    folders = [env["HOME"], *(env[name] for name in ("HF_HOME",) if name in env), "/tmp"]
    outside = [
        folder
        for folder in folders
        if not any(f"{folder}/".startswith(f"{path}/") for path in writable)
    ]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert outside == []
