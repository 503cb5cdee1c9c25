"""Reasons from the real scheduler, quota, admission and kubelet, through the real operator."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from modelworker_api import kube
from modelworker_devcluster import DevCluster
from tests.engine_support import save
from tests.operator_support import Objects, free_port, install_crds, operator
from tests.support import eventually

Reason = kube.Reason
PLAIN, QUOTA, RESTRICTED = "plain", "quota", "restricted"


@pytest.fixture(scope="module")
def places(cluster: DevCluster) -> Iterator[dict[str, Objects]]:
    """Three namespaces with one operator: an ordinary one, one without quota, a strict one."""
    install_crds(cluster)
    suffix = uuid4().hex[:6]
    found = {kind: Objects(cluster, f"{kind}-{suffix}") for kind in (PLAIN, QUOTA, RESTRICTED)}
    for place in found.values():
        cluster.kubectl("create", "namespace", place.namespace)
    found[QUOTA].kubectl("create", "quota", "none", "--hard=pods=0")
    cluster.kubectl(
        "label",
        "namespace",
        found[RESTRICTED].namespace,
        "pod-security.kubernetes.io/enforce=restricted",
    )
    namespaces = ",".join(place.namespace for place in found.values())
    port = free_port()
    settings = {
        "NAMESPACES": namespaces,
        "HEARTBEAT_URL": f"http://127.0.0.1:{port}",
        # Pods share the machine's network: each may listen on its own address alone.
        "WORKER_BIND_HOST": "$(MODELWORKER_POD_IP)",
    }
    with operator(cluster, found[PLAIN].namespace, environment=settings, heartbeat_port=port):
        yield found
    for place in found.values():
        cluster.kubectl("delete", "namespace", place.namespace, "--wait=false")


CLAIM = {"model": {"source": {"pvc": {"claimName": "nowhere"}}}}
PUBLIC = {"repo": "a/b", "revision": "abc"}
HUB = {**PUBLIC, "tokenSecretRef": {"name": "nowhere"}}


@pytest.mark.parametrize(
    ("place", "spec", "reason", "words"),
    [
        pytest.param(
            PLAIN,
            {"gpu": {"count": 16}},
            Reason.INSUFFICIENT_GPU,
            "1 Insufficient nvidia.com/gpu",
            id="more-gpus-than-the-node-has",
        ),
        pytest.param(PLAIN, CLAIM, Reason.VOLUME_CLAIM_NOT_FOUND, '"nowhere" not found', id="pvc"),
        pytest.param(
            PLAIN,
            {"scheduling": {"nodeSelector": {"no": "node"}}},
            Reason.UNSCHEDULABLE,
            "didn't match Pod's node affinity/selector",
            id="selector",
        ),
        pytest.param(
            PLAIN,
            {"resources": {"requests": {"memory": "100Ti"}}},
            Reason.UNSCHEDULABLE,
            "Insufficient memory",
            id="memory",
        ),
        pytest.param(
            PLAIN,
            {"image": "registry.invalid/worker:1", "model": {"source": {"huggingFace": PUBLIC}}},
            Reason.IMAGE_PULL_FAILED,
            "image registry.invalid/worker:1 cannot be pulled",
            id="image",
        ),
        pytest.param(
            PLAIN,
            {"model": {"source": {"huggingFace": HUB}}},
            Reason.CONTAINER_CONFIG_ERROR,
            'secret "nowhere" not found',
            id="token-secret",
        ),
        pytest.param(QUOTA, {}, Reason.QUOTA_EXCEEDED, "exceeded quota: none", id="quota"),
        pytest.param(
            RESTRICTED, {}, Reason.POD_CREATION_FAILED, "violates PodSecurity", id="host-path"
        ),
        pytest.param(
            PLAIN,
            {"scheduling": {"nodeSelector": {"pool": "no label!"}}},
            Reason.APPLY_REJECTED,
            "a valid label must be",
            id="no-label",
        ),
    ],
)
def test_reason(
    places: dict[str, Objects], place: str, spec: dict[str, Any], reason: kube.Reason, words: str
) -> None:
    objects, name = places[place], f"w-{uuid4().hex[:6]}"
    objects.apply_worker(name, **spec)
    ready = eventually(
        lambda: objects.condition(name, "Ready"),
        until=lambda found: found.get("reason") == reason,
        what=f"reason {reason}",
    )
    assert words in ready["message"]
    row = objects.kubectl("get", "mw", name, "--no-headers")
    assert reason in row.split()


def test_reason_of_the_worker_itself(places: dict[str, Objects], tmp_path: Path) -> None:
    """The last word of a worker that found no model reaches the condition and the entry."""
    objects = places[PLAIN]
    objects.apply_worker("empty", model={"source": {"hostPath": {"path": str(tmp_path)}}})
    ready = eventually(
        lambda: objects.condition("empty", "Ready"),
        until=lambda found: found.get("reason") == Reason.MODEL_NOT_FOUND,
        timeout=120,
        what="ModelNotFound",
    )
    assert "check spec.model.source" in ready["message"]
    eventually(
        lambda: objects.status("empty")["workers"],
        until=lambda workers: [entry["state"] for entry in workers] == ["Failed"],
        what="a worker that failed",
    )
    events = objects.kubectl("get", "events", "--field-selector=reason=ModelNotFound", "-o=name")
    assert len(events.split()) == 1


def test_implicit_reward_finds_both_models(places: dict[str, Objects], tmp_path: Path) -> None:
    """Each from a volume of its own, and the self-test's result in the condition."""
    folders = [save(tmp_path / name, seed=seed) for seed, name in enumerate(("model", "base"))]
    mine, base = ({"hostPath": {"path": str(folder)}} for folder in folders)
    models = replace(places[PLAIN], kind=kube.REWARDMODEL)
    models.apply_worker(
        "implicit",
        model={"source": mine, "dtype": "float32"},
        scoring={
            "type": "Process",
            "family": "ImplicitPRM",
            "implicit": {"referenceModel": {"source": base}, "beta": 0.05},
        },
    )
    verified = eventually(
        lambda: models.condition("implicit", "ScoringVerified"),
        until=lambda seen: seen.get("status") not in (None, "Unknown"),
        timeout=120,
        what="a self-test",
    )
    assert verified["reason"] == Reason.SELF_TEST_PASSED, verified["message"]
    assert models.status("implicit")["scoring"]["family"] == "ImplicitPRM"
    models.kubectl("delete", "rwm", "implicit")
