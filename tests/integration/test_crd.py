"""What the API server takes and what it refuses, and in which words."""

from typing import Any

import pytest

from modelworker_api import kube
from modelworker_devcluster import DevCluster
from modelworker_devcluster.errors import KubectlFailed
from tests.operator_manifests import ABSENT, METADATA, dry_run, manifest
from tests.operator_support import install_crds

INVISIBLE = {"nul": "\0", "newline": "\n", "right-to-left": "\u202e", "zero-width": "\u200b"}
HUB = {"huggingFace": {"repo": "org/model", "revision": "abc123"}}


@pytest.fixture(scope="module")
def api(control_plane: DevCluster) -> DevCluster:
    """The control plane with the CRD in it."""
    install_crds(control_plane)
    return control_plane


def modelworker(changes: dict[str, Any], *, name: str = "smol") -> str:
    """A small valid object as JSON, with fields set by dotted path."""
    return manifest(kube.MODELWORKER, changes, name=name)


def source(**members: Any) -> dict[str, Any]:
    return {"model.source": members}


def hub(**fields: Any) -> dict[str, Any]:
    return source(huggingFace={**HUB["huggingFace"], **fields})


def env(*items: dict[str, Any]) -> dict[str, Any]:
    return {"env": list(items)}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="least"),
        pytest.param(hub(tokenSecretRef={"name": "hub"}), id="hub-with-token"),
        pytest.param(hub(endpoint="https://hub.example.com/mirror"), id="hub-mirror"),
        pytest.param(hub(revision="refs/pr/1"), id="hub-pull-request"),
        pytest.param(hub(endpoint="http://10.0.0.7:8080"), id="hub-address"),
        pytest.param(hub(endpoint="http://[2001:db8::7]:8080"), id="hub-address-6"),
        pytest.param(hub(endpoint="http://hub-1.tools.svc"), id="hub-service"),
        pytest.param({"auth": {"mode": "Token"}}, id="auth-token"),
        pytest.param({"auth": {"mode": "None"}}, id="auth-none"),
        pytest.param({"auth": {}}, id="auth-left-open"),
        pytest.param(source(hostPath={"path": "/data/models/x"}), id="host-path"),
        pytest.param(source(pvc={"claimName": "models"}), id="root-of-volume"),
        pytest.param({"model.ggufFile": "a..b.Q4_1.gguf"}, id="gguf-with-dots"),
        pytest.param({"model.name": "org/model:latest"}, id="served-name"),
        pytest.param({"replicas": 0}, id="scaled-to-zero"),
        pytest.param({"replicas": None}, id="replicas-left-open"),
        pytest.param({"gpu": {"count": 8, "resourceName": "amd.com/gpu"}}, id="amd"),
        pytest.param(
            {"resources": {"requests": {"cpu": 1, "memory": "1024Mi"}, "limits": {"cpu": "1000m"}}},
            id="request-equals-limit",
        ),
        pytest.param({"resources": {"limits": {"memory": "1e3"}}}, id="exponent"),
        pytest.param(
            env(
                {"name": "LOG_LEVEL", "value": ""},
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "OMP_NUM_THREADS", "value": "2"},
            ),
            id="env",
        ),
        pytest.param(
            {
                "scheduling": {
                    "nodeSelector": {"gpu": "h100"},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                    "affinity": {"nodeAffinity": {}},
                    "topologySpreadConstraints": [
                        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
                    ],
                    "priorityClassName": "high",
                    "schedulerName": "volcano",
                    "runtimeClassName": "nvidia",
                }
            },
            id="scheduling",
        ),
        pytest.param({"heartbeat": {"intervalSeconds": 15}}, id="slow-heartbeat"),
    ],
)
def test_taken(api: DevCluster, changes: dict[str, Any]) -> None:
    dry_run(api, modelworker(changes))


def test_defaults(api: DevCluster) -> None:
    assert dry_run(api, modelworker(source(pvc={"claimName": "models"})))["spec"] == {
        "model": {"source": {"pvc": {"claimName": "models", "path": ""}}, "dtype": "auto"},
        "backend": "Transformers",
        "replicas": 1,
        "gpu": {"count": 0},
        "resources": {},
        "scheduling": {},
        "heartbeat": {"intervalSeconds": 10, "staleAfterSeconds": 45},
        "concurrency": {"maxRunning": 32, "maxQueued": 256},
        "drain": {"timeoutSeconds": 60},
        "rollout": {"progressDeadlineSeconds": 3600},
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            source(), "spec.model.source: Invalid value: set exactly one of", id="no-source"
        ),
        pytest.param(
            source(pvc={"claimName": "a"}, **HUB),
            "set exactly one of huggingFace, pvc, hostPath",
            id="two-sources",
        ),
        pytest.param({"model": ABSENT}, "spec.model: Required value", id="no-model"),
        pytest.param({"model.source": ABSENT}, "spec.model.source: Required value", id="no-origin"),
        pytest.param({"modle": {}}, 'unknown field "spec.modle"', id="typing-error"),
        pytest.param(
            {"replicas": -1},
            "spec.replicas in body should be greater than or equal to 0",
            id="replicas--1",
        ),
        pytest.param({"replicas": "3"}, "spec.replicas in body must be of type integer", id="text"),
        pytest.param(
            {"replicas": 2**31}, "spec.replicas in body should be less than", id="replicas-2^31"
        ),
        pytest.param(
            {"gpu.count": 1.5}, "spec.gpu.count in body must be of type int32", id="half-gpu"
        ),
        pytest.param({"gpu.count": -1}, "should be greater than or equal to 0", id="gpu--1"),
        pytest.param({"gpu.count": 17}, "should be less than or equal to 16", id="gpu-17"),
        pytest.param({"gpu.resourceName": "gpu"}, "such as nvidia.com/gpu", id="gpu-name"),
        pytest.param(
            {"resources.limits": {"nvidia.com/gpu": 1}}, "GPUs are set in spec.gpu", id="gpu-limit"
        ),
        pytest.param(
            {"resources.requests": {"nvidia.com/gpu": "1.5"}},
            "GPUs are set in spec.gpu",
            id="gpu-request",
        ),
        pytest.param(
            {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1G"}}},
            "a request must not be above its limit",
            id="request-above-limit",
        ),
        pytest.param({"resources.limits": {"cpu": "-1"}}, "not negative", id="cpu--1"),
        pytest.param({"resources.limits": {"cpu": "many"}}, "such as 500m", id="cpu-many"),
        pytest.param({"resources.limits": {"memory": "1e309"}}, "such as 500m", id="memory-1e309"),
        pytest.param(
            source(pvc={"claimName": ""}), "should be at least 1 chars long", id="no-claim"
        ),
        pytest.param(
            {"model.source.pvc.path": "/smollm2"}, "remove the leading '/'", id="absolute-path"
        ),
        pytest.param({"model.source.pvc.path": "a/../../b"}, "must not contain '..'", id="dots"),
        *(
            pytest.param({"model.source.pvc.path": f"a{sign}b"}, "control characters", id=name)
            for name, sign in INVISIBLE.items()
        ),
        *(
            pytest.param({"model.name": f"a{sign}b"}, "have only letters", id=f"name-{name}")
            for name, sign in INVISIBLE.items()
        ),
        *(
            pytest.param({"model.name": text}, "must begin with a letter", id=f"name-{text}")
            for text in ("-flag", "--trust-remote-code", "../../etc")
        ),
        pytest.param({"model.name": ""}, "model.name in body should be at least 1", id="name-"),
        pytest.param({"model.name": "a" * 10_000}, "may not be more than 253", id="name-10-KB"),
        pytest.param(source(hostPath={"path": "models"}), "must be absolute", id="relative-host"),
        pytest.param(source(hostPath={"path": "/a/.."}), "must not contain '..'", id="host-dots"),
        pytest.param(hub(revision=""), "revision in body should be at least 1", id="no-revision"),
        pytest.param(
            source(huggingFace={"repo": "a/b"}), "huggingFace.revision: Required", id="not-pinned"
        ),
        pytest.param(hub(revision="main branch"), "without spaces", id="revision-space"),
        pytest.param(hub(revision="../main"), "without spaces", id="revision-dots"),
        pytest.param(hub(repo="gpt2"), "must be OWNER/NAME", id="repo-without-owner"),
        pytest.param(hub(repo=""), "must be OWNER/NAME", id="repo-empty"),
        pytest.param(hub(repo="../etc/passwd"), "must be OWNER/NAME", id="repo-path"),
        pytest.param(hub(repo="-flag/x"), "must be OWNER/NAME", id="repo-flag"),
        pytest.param(hub(repo="a/b@main;rm"), "must be OWNER/NAME", id="repo-shell"),
        pytest.param(hub(repo="http://169.254.169.254/"), "must be OWNER/NAME", id="repo-url"),
        *(
            pytest.param(hub(repo=text), "must be OWNER/NAME", id=f"repo-{text}")
            for text in ("hf://a/b@main", "file:///etc", "pvc://other-ns/x", "--trust-remote-code")
        ),
        *(
            pytest.param(hub(repo=f"a/b{sign}"), "must be OWNER/NAME", id=f"repo-{name}")
            for name, sign in INVISIBLE.items()
        ),
        pytest.param(
            source(uri="s3://bucket/x"), 'unknown field "spec.model.source.uri"', id="uri"
        ),
        pytest.param(hub(repo="a/" + "b" * 10_000), "may not be more than 193", id="repo-10-KB"),
        pytest.param(hub(endpoint="file:///etc"), "must be a URL such as https", id="file-url"),
        pytest.param(hub(endpoint="hub"), "must be a URL such as https", id="no-url"),
        pytest.param(hub(endpoint="https://u:p@h"), "use tokenSecretRef", id="url-password"),
        *(
            pytest.param(hub(endpoint=url), "name the hub's own host", id=f"metadata-{url[7:]}")
            for url in METADATA
        ),
        pytest.param(hub(tokenSecretRef={}), "tokenSecretRef.name: Required", id="secret-unnamed"),
        pytest.param(
            hub(token="hf_x"),
            'unknown field "spec.model.source.huggingFace.token"',
            id="token-in-spec",
        ),
        pytest.param({"model.ggufFile": "q4/a.gguf"}, "file name without '/'", id="gguf-folder"),
        pytest.param({"model.ggufFile": "a.bin"}, "must end in .gguf", id="gguf-end"),
        pytest.param({"model.name": "a b"}, "must begin with a letter", id="served-name-space"),
        pytest.param({"model.dtype": "float8"}, 'supported values: "auto", "float16"', id="dtype"),
        pytest.param({"model.maxModelLen": 0}, "should be greater than or equal to 1", id="len-0"),
        pytest.param({"image": "a b"}, "must be an image reference without spaces", id="image"),
        pytest.param(
            env({"name": "MODELWORKER_PORT", "value": "1"}), "remove it from env", id="env-ours"
        ),
        pytest.param(env({"name": "HF_HOME", "value": "/x"}), "remove it from env", id="env-home"),
        pytest.param(
            env({"name": "HF_TOKEN", "value": "x"}), "tokenSecretRef instead", id="env-token"
        ),
        pytest.param(
            env({"name": "HUGGING_FACE_HUB_TOKEN", "value": "x"}),
            "tokenSecretRef instead",
            id="env-old-token",
        ),
        pytest.param(
            env({"name": "HF_ENDPOINT", "value": "x"}), "endpoint instead", id="env-endpoint"
        ),
        pytest.param(env({"name": "1X"}), "such as LOG_LEVEL", id="env-name"),
        pytest.param(
            env({"name": "X", "value": "1"}, {"name": "X", "value": "2"}),
            "Duplicate value",
            id="env-twice",
        ),
        pytest.param(
            env({"name": "X", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "a"}}}),
            "either value or valueFrom",
            id="env-both",
        ),
        pytest.param(
            env({"name": "X", "valueFrom": {}}),
            "set exactly one of secretKeyRef",
            id="env-from-nothing",
        ),
        pytest.param(
            env(*({"name": f"X{n}"} for n in range(1000))), "at most 64 items", id="env-1000"
        ),
        pytest.param(
            {"heartbeat": {"intervalSeconds": 60}}, "at least three times", id="stale-too-soon"
        ),
        pytest.param({"auth": {"mode": "none"}}, 'supported values: "Token", "None"', id="auth"),
        pytest.param({"auth": {"token": "x"}}, 'unknown field "spec.auth.token"', id="auth-text"),
        pytest.param({"trustRemoteCode": True}, 'unknown field "spec.trustRemote', id="model-code"),
        pytest.param({"heartbeat.intervalSeconds": 1}, "greater than or equal to 5", id="hasty"),
        pytest.param({"concurrency.maxRunning": 0}, "greater than or equal to 1", id="running-0"),
        pytest.param({"drain.timeoutSeconds": -1}, "greater than or equal to 0", id="drain--1"),
        pytest.param(
            {"scheduling.affinity": {"nodeAffinty": {}}},
            'unknown field "spec.scheduling.affinity.nodeAffinty"',
            id="affinity-typing-error",
        ),
        pytest.param(
            {"scheduling.tolerations": [{"effect": "Never"}]}, "supported values", id="toleration"
        ),
    ],
)
def test_refused(api: DevCluster, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KubectlFailed) as refused:
        dry_run(api, modelworker(changes))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("a" * 51, "metadata.name must be at most 50 characters", id="51-characters"),
        pytest.param("a.b", "metadata.name must not contain dots", id="dots"),
        pytest.param("Upper", "a lowercase RFC 1123 subdomain", id="upper-case"),
    ],
)
def test_name_refused(api: DevCluster, name: str, message: str) -> None:
    with pytest.raises(KubectlFailed) as refused:
        dry_run(api, modelworker({}, name=name))
    assert message in str(refused.value)


@pytest.mark.parametrize("name", [pytest.param("a" * 50, id="50-characters"), "7b", "a-b"])
def test_name_taken(api: DevCluster, name: str) -> None:
    dry_run(api, modelworker({}, name=name))


@pytest.fixture
def stored(api: DevCluster, control_plane_namespace: str) -> str:
    """The namespace of a stored object called smol."""
    api.kubectl("create", "-n", control_plane_namespace, "-f", "-", stdin=modelworker({}))
    return control_plane_namespace


def test_columns_and_short_name(api: DevCluster, stored: str) -> None:
    header, row = api.kubectl("get", "mw", "-n", stored).splitlines()
    assert header.split() == [
        "NAME",
        "MODEL",
        "BACKEND",
        "GPUS",
        "READY",
        "DESIRED",
        "REASON",
        "URL",
        "AGE",
    ]
    assert row.split()[:3] == ["smol", "Transformers", "0"]
    assert "smol" in api.kubectl("get", "modelworker", "-n", stored, "-o=wide")
    assert api.kubectl("api-resources", "--categories=modelworker", "-o=name").split() == [
        "modelworkers.modelworker.dev",
        "rewardmodels.modelworker.dev",
    ]


def test_scale_writes_replicas(api: DevCluster, stored: str) -> None:
    api.kubectl("scale", "mw", "smol", "--replicas=3", "-n", stored)
    replicas = api.kubectl("get", "mw", "smol", "-n", stored, "-o=jsonpath={.spec.replicas}")
    assert replicas == "3"
    with pytest.raises(KubectlFailed):
        api.kubectl("scale", "mw", "smol", "--replicas=-1", "-n", stored)


def test_explain_shows_descriptions(api: DevCluster) -> None:
    text = api.kubectl("explain", "mw.spec.gpu")
    assert "Name under which the nodes offer the GPUs" in text
