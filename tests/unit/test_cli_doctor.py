"""`doctor`: each check as a table, and a whole run."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from modelworker.cli import _checks, _rights
from modelworker.cli._app import run
from modelworker.cli._cluster import METADATA_ONLY, proxy_path
from modelworker.cli._findings import Finding, Level
from modelworker.cli._operator import Leader
from modelworker_api import kube, wire
from tests.cli_support import (
    LEASES,
    NOW,
    OBJECTS,
    PODS,
    FakeCluster,
    absent,
    body,
    forbidden,
    seen,
    world,
)

FIELDS = {
    "spec": {"properties": {"auth": {"properties": {"mode": {}}}}},
    "status": {"properties": {"workers": {}}},
}
SCHEMAS = {f"dev.v1.{kind.kind}": {"properties": FIELDS} for kind in kube.KINDS}
OLD = {"properties": {**FIELDS, "spec": {"properties": {}}}}


def levels(findings: Any) -> list[str]:
    return [f"{one.level} {one.message}" for one in findings]


@pytest.mark.parametrize(
    ("schemas", "found"),
    [
        pytest.param(SCHEMAS, [Level.OK, Level.OK], id="there"),
        pytest.param({}, [Level.FAIL, Level.FAIL], id="none"),
        pytest.param({**SCHEMAS, "dev.v1.ModelWorker": OLD}, [Level.FAIL, Level.OK], id="old"),
    ],
)
def test_kinds(schemas: Mapping[str, Any], found: list[Level]) -> None:
    assert [one.level for one in _checks.kinds(schemas)] == found


def leader(pod: str = "o-1", age: float = 1.0) -> Leader:
    from modelworker.cli._facts import time_of

    return Leader("sys", pod, time_of(seen(age)), 15)


@pytest.mark.parametrize(
    ("leaders", "found"),
    [
        pytest.param([leader()], ["OK o-1 in sys leads, seen 1s ago"], id="leads"),
        pytest.param([leader(age=600)], ["FAIL o-1 in sys led last 10m ago"], id="late"),
        pytest.param([leader(pod="")], ["FAIL nobody leads in sys"], id="nobody"),
        pytest.param([], [f"FAIL no Lease {kube.LEASE_NAME}: it never ran here"], id="never-ran"),
    ],
)
def test_operators(leaders: list[Leader], found: list[str]) -> None:
    assert levels(_checks.operators(leaders, NOW)) == found


def node(count: int, resource: str = "nvidia.com/gpu") -> dict[str, Any]:
    return {"metadata": {"name": "n-1"}, "status": {"allocatable": {resource: str(count)}}}


def taking(count: int, phase: str = "Running") -> dict[str, Any]:
    requests = {"nvidia.com/gpu": str(count)}
    return {
        "spec": {"nodeName": "n-1", "containers": [{"resources": {"requests": requests}}]},
        "status": {"phase": phase},
    }


@pytest.mark.parametrize(
    ("nodes", "pods", "wanted", "found"),
    [
        pytest.param(
            [node(8)],
            [taking(2), taking(3, "Succeeded")],
            {"count": 4},
            ["OK node n-1: 8 nvidia.com/gpu, 2 in use"],
            id="enough",
        ),
        pytest.param(
            [node(2)],
            None,
            {"count": 4},
            [
                "OK node n-1: 2 nvidia.com/gpu",
                "FAIL a worker asks for 4 nvidia.com/gpu, and no node has more than 2",
            ],
            id="too-few-and-pods-unknown",
        ),
        pytest.param(
            [node(2, "amd.com/gpu")],
            [],
            {"count": 1, "resourceName": "amd.com/gpu"},
            ["OK node n-1: 2 amd.com/gpu, 0 in use"],
            id="another-resource",
        ),
        pytest.param(
            [{"metadata": {"name": "n-1"}}],
            [],
            {},
            ["OK no node has a GPU, and no worker asks for one"],
            id="none-wanted",
        ),
    ],
)
def test_gpus(nodes: Any, pods: Any, wanted: dict[str, Any], found: list[str]) -> None:
    assert levels(_checks.gpus(nodes, pods, [body("p", gpu=wanted)])) == found


@pytest.mark.parametrize(
    ("claim", "level"),
    [
        pytest.param(None, Level.FAIL, id="none"),
        pytest.param({"status": {"phase": "Bound"}}, Level.OK, id="bound"),
        pytest.param({"status": {"phase": "Pending"}}, Level.WARN, id="pending"),
        pytest.param({"status": {"phase": "Lost"}}, Level.FAIL, id="lost"),
    ],
)
def test_claim(claim: Any, level: Level) -> None:
    assert _checks.claim("models", "ns", claim).level is level


def test_what_objects_name_is_found_at_any_depth() -> None:
    reference = {"source": {"pvc": {"claimName": "base"}}}
    one = body(
        "p",
        scoring={"implicit": {"referenceModel": reference}},
        imagePullSecrets=[{"name": "registry"}],
        vllm={"developmentRoutes": {"tokenSecretRef": {"name": "routes"}}},
        env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}],
    )
    assert _checks.claims_of(one) == ["base", "models"]
    assert _checks.secrets_of(one) == ["env", "registry", "routes"]


@pytest.mark.parametrize(
    ("right", "allowed", "level"),
    [
        pytest.param(_rights.RIGHTS[0], True, Level.OK, id="have"),
        pytest.param(_rights.RIGHTS[0], False, Level.FAIL, id="needed"),
        pytest.param(_rights.RIGHTS[-1], False, Level.WARN, id="another-way"),
    ],
)
def test_right(right: _rights.Right, allowed: bool, level: Level) -> None:
    finding = _rights.judged(right, "ns", allowed=allowed)
    assert finding.level is level
    assert (finding.step is None) is allowed


TOKEN = "/api/v1/namespaces/ns/serviceaccounts/default/token"
GUARDED = proxy_path("ns", "p-1", "/v1/models")
OPEN = proxy_path("ns", "p-1", "/healthz")
HUB = {"huggingFace": {"repo": "a/b", "tokenSecretRef": {"name": "hub"}}}
SECRET = "/api/v1/namespaces/ns/secrets/hub"
WORKERS = [{"pod": "p-1", "state": "Ready", "address": "10.0.0.1:8000"}]
CANARY = "canary-token"


def cluster(**more: Any) -> FakeCluster:
    """Everything is as it should be."""
    lease = {
        "metadata": {"namespace": "sys"},
        "spec": {"holderIdentity": "o-1_x", "renewTime": seen(1), "leaseDurationSeconds": 15},
    }
    return FakeCluster(
        {
            "/version": {"gitVersion": "v1.37.2"},
            f"/openapi/v3/apis/{kube.API_VERSION}": {"components": {"schemas": SCHEMAS}},
            _rights.REVIEWS: {"status": {"allowed": True}},
            LEASES: [lease],
            OBJECTS[kube.MODELWORKER]: [body("p", workers=WORKERS, model={"source": HUB})],
            OBJECTS[kube.REWARDMODEL]: [],
            PODS: [],
            "/api/v1/nodes": [node(2)],
            "/api/v1/pods": [],
            SECRET: {"metadata": {"name": "hub"}},
            OPEN: "ok",
            TOKEN: {"status": {"token": CANARY}},
            GUARDED: "{}",
            **more,
        }
    )


def examined(capsys: pytest.CaptureFixture[str], fake: FakeCluster) -> tuple[int, list[Finding]]:
    code = run(["doctor", "-o", "json"], world(fake))
    said = capsys.readouterr()
    assert CANARY not in said.out + said.err
    return code, [Finding(**one) for one in json.loads(said.out)["items"]]


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    fake = cluster()
    code, found = examined(capsys, fake)
    assert code == 0
    assert {one.level for one in found} == {"OK"}
    assert {one.check for one in found} == {
        "cluster",
        "crds",
        "rights",
        "operator",
        "gpus",
        "secrets",
        "workers",
        "token",
    }
    assert dict(fake.asked)[SECRET] == {"accept": METADATA_ONLY}, "no Secret's data is asked for"
    assert dict(fake.fetched)[GUARDED] == {wire.HEADER_API_KEY: CANARY}
    (request,) = (posted["spec"] for path, posted in fake.posted if path == TOKEN)
    assert request["audiences"] == [kube.INFERENCE_AUDIENCE]


@pytest.mark.parametrize(
    ("path", "answer", "check", "level", "words"),
    [
        pytest.param(SECRET, forbidden("no secrets"), "secrets", "WARN", "no secrets", id="blind"),
        pytest.param(SECRET, absent(), "secrets", "FAIL", "ns/hub does not exist", id="secret"),
        pytest.param(LEASES, forbidden("no leases"), "operator", "WARN", "no leases", id="leases"),
        pytest.param("/api/v1/nodes", forbidden("no nodes"), "gpus", "WARN", "nodes", id="nodes"),
        pytest.param(OPEN, absent("no way"), "workers", "FAIL", "no way", id="reach"),
        pytest.param(TOKEN, forbidden("no token"), "token", "WARN", "no token", id="token"),
        pytest.param(GUARDED, absent("401"), "token", "FAIL", "does not take", id="refused"),
        pytest.param(
            _rights.REVIEWS, {"status": {}}, "rights", "FAIL", "no right to list", id="rights"
        ),
    ],
)
def test_what_is_wrong(
    capsys: pytest.CaptureFixture[str],
    path: str,
    answer: Any,
    check: str,
    level: str,
    words: str,
) -> None:
    code, found = examined(capsys, cluster(**{path: answer}))
    finding = next(one for one in found if one.check == check and one.level != "OK")
    assert finding.level == level
    assert words in finding.message
    assert finding.step
    assert code == (1 if level == "FAIL" else 0)


def test_text_has_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"], world(cluster(**{SECRET: absent()}))) == 1
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("FAIL   secrets    secret ns/hub does not exist")
    assert lines[place + 1].strip() == (
        "next: kubectl create secret generic hub -n ns --from-file=token=FILE"
    )
