"""Which pods the process kubelet refuses, and what it says it does not enforce."""

from typing import Any

import pytest

from modelworker_devcluster.kubelet.supported import not_enforced, refusals

Object = dict[str, Any]


def pod(container: Object | None = None, **spec: Any) -> Object:
    return {"spec": {"containers": [{"name": "c", "image": "local/x"} | (container or {})]} | spec}


@pytest.mark.parametrize(
    ("subject", "refused"),
    [
        pytest.param(pod(), (), id="plain"),
        pytest.param(pod(hostNetwork=False, hostPID=False, volumes=[]), (), id="says-nothing"),
        pytest.param(pod(hostNetwork=True), ("spec.hostNetwork",), id="host-network"),
        pytest.param(
            pod(hostPID=True, hostIPC=True), ("spec.hostPID", "spec.hostIPC"), id="two-at-once"
        ),
        pytest.param(
            pod(affinity={"x": 1}, tolerations=[{"key": "a"}], priority=5, dnsPolicy="Default"),
            (),
            id="scheduler",
        ),
        pytest.param(pod(os={"name": "linux"}), (), id="linux"),
        pytest.param(pod(os={"name": "windows"}), ("spec.os.name=windows",), id="windows"),
        pytest.param(pod(inventedLater={"a": 1}), ("spec.inventedLater",), id="future-field"),
        pytest.param(
            pod({"inventedLater": {}}), ("spec.containers[c].inventedLater",), id="future-object"
        ),
        pytest.param(
            pod({"readinessProbe": {"grpc": {"port": 1}}}),
            ("spec.containers[c].readinessProbe.grpc",),
            id="grpc",
        ),
        pytest.param(
            pod({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(A)"}]}),
            ("spec.containers[c].volumeMounts[v].subPathExpr",),
            id="sub-path-expression",
        ),
        pytest.param(
            pod({"volumeDevices": [{"name": "v"}]}),
            ("spec.containers[c].volumeDevices",),
            id="block-device",
        ),
        pytest.param(
            pod({"resources": {"claims": [{"name": "g"}]}}),
            ("spec.containers[c].resources.claims",),
            id="resource-claim",
        ),
        pytest.param(
            pod(initContainers=[{"name": "s", "image": "x", "restartPolicy": "Always"}]),
            ("spec.initContainers[s].restartPolicy",),
            id="sidecar",
        ),
        pytest.param(
            pod(volumes=[{"name": "n", "nfs": {"server": "a"}}]),
            ("spec.volumes[n].nfs",),
            id="volume-kind",
        ),
        pytest.param(
            pod(volumes=[{"name": "e", "ephemeral": {}}]),
            ("spec.volumes[e].ephemeral",),
            id="volume-kind-without-fields",
        ),
        pytest.param(
            pod(volumes=[{"name": "p", "projected": {"sources": [{"clusterTrustBundle": {}}]}}]),
            ("spec.volumes[p].projected.sources[0].clusterTrustBundle",),
            id="projection",
        ),
        pytest.param(
            pod({"ports": [{"containerPort": 1, "hostPort": 2}]}),
            ("spec.containers[c].ports[0].hostPort",),
            id="host-port",
        ),
        pytest.param(
            pod({"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}), (), id="sleep-hook"
        ),
        pytest.param(
            pod({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "k"}}}]}),
            ("spec.containers[c].env[A].valueFrom.fileKeyRef",),
            id="env-from-file",
        ),
    ],
)
def test_refusals(subject: Object, refused: tuple[str, ...]) -> None:
    assert refusals(subject) == refused


@pytest.mark.parametrize(
    ("subject", "fields"),
    [
        pytest.param(pod(), (), id="nothing"),
        pytest.param(
            pod({"resources": {"limits": {"cpu": "1", "nvidia.com/gpu": "1"}}}),
            ("spec.containers[c].resources.limits.cpu",),
            id="gpus-are-given-out",
        ),
        pytest.param(pod({"resources": {"requests": {"cpu": "1"}}}), (), id="requests"),
        pytest.param(
            pod({"securityContext": {"readOnlyRootFilesystem": True}}),
            ("spec.containers[c].securityContext.readOnlyRootFilesystem",),
            id="container-security",
        ),
        pytest.param(
            pod(securityContext={"runAsNonRoot": True}),
            ("spec.securityContext.runAsNonRoot",),
            id="pod-security",
        ),
        pytest.param(
            pod({"volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True}]}),
            ("spec.containers[c].volumeMounts[/v].readOnly",),
            id="read-only",
        ),
        pytest.param(
            pod(volumes=[{"name": "e", "emptyDir": {"sizeLimit": "1Gi"}}]),
            ("spec.volumes[e].emptyDir.sizeLimit",),
            id="size-limit",
        ),
        pytest.param(pod(hostUsers=False), ("spec.hostUsers",), id="user-namespace"),
    ],
)
def test_not_enforced(subject: Object, fields: tuple[str, ...]) -> None:
    assert not_enforced(subject) == fields
