"""Heartbeats with real tokens on a real API server."""

from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest

from modelworker_api import kube, wire
from modelworker_devcluster import DevCluster
from modelworker_operator.listener import LONGEST_BODY
from tests.operator_pods import bind, post, run, token
from tests.operator_support import Audit, Objects, OperatorProcess, install_crds, operator
from tests.support import eventually

NAMESPACE = "heartbeats"


@pytest.fixture(scope="module")
def running(control_plane: DevCluster) -> Iterator[OperatorProcess]:
    """An operator for the namespace of this module, and a worker `beating` with one pod."""
    install_crds(control_plane)
    control_plane.kubectl("create", "namespace", NAMESPACE)
    control_plane.kubectl("create", "serviceaccount", "someone", "-n", NAMESPACE)
    settings = {"LEADER_ELECT": "false", "LOG_LEVEL": "debug"}
    with operator(control_plane, NAMESPACE, environment=settings) as process:
        yield process


@pytest.fixture(scope="module")
def objects(running: OperatorProcess) -> Objects:
    made = Objects(running.cluster, NAMESPACE)
    made.apply_worker("beating")
    return made


@pytest.fixture(scope="module")
def pod(objects: Objects) -> str:
    """The worker's pod, bound to a node that does not exist, with its container running."""
    name = eventually(
        lambda: objects.get("pods", "-l", "modelworker.dev/name=beating")["items"], what="a pod"
    )[0]["metadata"]["name"]
    bind(objects, name)
    run(objects, name)
    eventually(
        lambda: workers(objects).get(name, {}).get("state"),
        until=lambda state: state == "Starting",
        what="a worker that starts",
    )
    return str(name)


@pytest.fixture(scope="module")
def foreign_pod(objects: Objects) -> str:
    """A pod in the same namespace that is no worker."""
    objects.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "foreign"},
            "spec": {"nodeName": "nowhere", "containers": [{"name": "c", "image": "local/c"}]},
        }
    )
    return "foreign"


def workers(objects: Objects) -> dict[str, dict[str, Any]]:
    """`status.workers` by pod."""
    return {entry["pod"]: entry for entry in objects.status("beating").get("workers", [])}


def test_the_pods_own_token_changes_the_status(
    objects: Objects, running: OperatorProcess, pod: str
) -> None:
    bearer = token(objects, pod)
    answer = post(running, bearer, {"state": "Loading", "progress": 40, "revision": "abc"})
    assert (answer.status_code, answer.json()["interval_seconds"]) == (200, 10.0)
    eventually(
        lambda: workers(objects)[pod],
        until=lambda seen: seen["state"] == "Loading",
        what="the state that was reported",
    )
    assert workers(objects)[pod]["progress"] == 40
    assert workers(objects)[pod]["revision"] == "abc"
    assert workers(objects)[pod]["heartbeat"] == "Fresh"

    # The same again, and a little progress, are only remembered.
    audit = Audit(objects.cluster)
    for progress in (40, 42, 43):
        body = {"state": "Loading", "progress": progress, "revision": "abc"}
        assert post(running, bearer, body).status_code == 200
    assert running.metric("modelworker_heartbeat_pods") == 1
    assert audit.brief("operator-a") == []

    post(running, bearer, {"state": "Failed", "reason": "ModelNotFound", "message": "no file"})
    ready = eventually(
        lambda: objects.condition("beating", "Ready"),
        until=lambda seen: seen.get("reason") == "ModelNotFound",
        what="the reason that was reported",
    )
    assert "no file" in ready["message"]


def test_the_answer_has_what_callers_tokens_are_checked_by(
    objects: Objects, running: OperatorProcess, pod: str
) -> None:
    bearer = token(objects, pod)
    answer = eventually(
        lambda: post(running, bearer, {"state": "Loading"}).json(),
        until=lambda seen: "trust" in seen,
        what="whom to trust",
    )
    trust = wire.Trust.model_validate(answer["trust"])
    assert trust.namespaces == [NAMESPACE]
    keys = jwt.PyJWKSet.from_dict({"keys": trust.keys})
    shown = token(objects, None, audience=kube.INFERENCE_AUDIENCE)
    claims = jwt.decode(
        shown,
        keys[jwt.get_unverified_header(shown)["kid"]],
        algorithms=["ES256", "RS256"],
        issuer=trust.issuer,
        audience=kube.INFERENCE_AUDIENCE,
    )
    assert claims["kubernetes.io"]["namespace"] == NAMESPACE
    assert 0 <= running.metric("modelworker_token_keys_age_seconds") < 120


def refused_token(objects: Objects, pod: str, foreign_pod: str, kind: str) -> str | None:
    """A token that is not the worker's own for heartbeats."""
    match kind:
        case "forged":
            return token(objects, pod)[:-12] + "A" * 12
        case "wrong-audience":
            return token(objects, pod, audience="someone.example")
        case "api-server-audience":
            return token(objects, pod, audience="https://kubernetes.default.svc")
        case "bound-to-no-pod":
            return token(objects, None)
        case "other-pod":
            return token(objects, foreign_pod)
    return None if kind == "none" else "let-me-in"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("none", 401),
        ("garbage", 401),
        ("forged", 401),
        ("wrong-audience", 401),
        ("api-server-audience", 401),
        ("bound-to-no-pod", 401),
        ("other-pod", 403),
    ],
)
def test_other_tokens_are_refused_and_change_nothing(
    objects: Objects,
    running: OperatorProcess,
    *,
    pod: str,
    foreign_pod: str,
    kind: str,
    status: int,
) -> None:
    bearer = refused_token(objects, pod, foreign_pod, kind)
    before = objects.get("mw", "beating")
    pods = running.metric("modelworker_heartbeat_pods")
    audit = Audit(objects.cluster)
    answer = post(running, bearer, {"state": "Ready", "revision": "evil"})
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]
    assert running.metric("modelworker_heartbeat_pods") == pods
    assert audit.brief("operator-a") == []
    assert objects.get("mw", "beating") == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"{", 400, id="broken-json"),
        pytest.param(b'{"state": "Ready", "progress": NaN}', 422, id="nan"),
        pytest.param(b'{"state": "Ready", "progress": 1e999}', 422, id="infinity"),
        pytest.param(b'{"state": "Dancing"}', 422, id="unknown-state"),
        pytest.param(b'{"state": "Ready", "running": -1}', 422, id="negative"),
        pytest.param(b"[]", 422, id="no-object"),
        pytest.param(b'{"state": "Ready", "message": "' + b"x" * 2000 + b'"}', 422, id="wordy"),
        pytest.param(b" " * (LONGEST_BODY + 1), 413, id="too-long"),
    ],
)
def test_bad_bodies_are_refused(
    objects: Objects, running: OperatorProcess, pod: str, body: bytes, status: int
) -> None:
    bearer = token(objects, pod)
    # The pod may have used up what it may send.
    answer = eventually(
        lambda: post(running, bearer, body), until=lambda seen: seen.status_code != 429
    )
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("kind", ["own", "forged", "wrong-audience", "other-pod"])
def test_no_token_is_told_anywhere(
    objects: Objects, running: OperatorProcess, *, pod: str, foreign_pod: str, kind: str
) -> None:
    bearer = refused_token(objects, pod, foreign_pod, kind) if kind != "own" else None
    bearer = bearer or token(objects, pod)
    answer = post(running, bearer, {"state": "Loading"})
    told = [
        answer.text,
        running.log.read_text(),
        running.get("/metrics").text,
        objects.kubectl("get", "mw,events,deployments,endpointslices", "-o=yaml"),
    ]
    secret = bearer.rpartition(".")[2]
    assert [text for text in told if secret in text] == []


def test_a_flood_is_answered_429(objects: Objects, running: OperatorProcess, pod: str) -> None:
    bearer = token(objects, pod)
    with httpx.Client(headers={"Authorization": f"Bearer {bearer}"}) as client:
        url = f"http://127.0.0.1:{running.heartbeat_port}/v1/heartbeat"
        # The tests before this one have posted for the same pod.
        eventually(
            lambda: client.post(url, json={"state": "Loading"}).status_code,
            until=lambda code: code == httpx.codes.OK,
            what="heartbeat that is taken again",
        )
        answers = [client.post(url, json={"state": "Loading"}) for _ in range(40)]
    codes = [answer.status_code for answer in answers]
    assert set(codes) <= {200, 429}
    assert 429 in codes
    assert all("retry-after" in one.headers for one in answers if one.status_code == 429)


def test_without_the_api_server_known_tokens_still_work() -> None:
    with DevCluster(kubelet=False) as cluster:
        install_crds(cluster)
        objects = Objects(cluster, "default")
        with operator(cluster, "default", environment={"LEADER_ELECT": "false"}) as process:
            objects.apply_worker("beating")
            name = eventually(
                lambda: objects.get("pods", "-l", "modelworker.dev/name=beating")["items"]
            )[0]["metadata"]["name"]
            bind(objects, name)
            known, unknown = token(objects, name), token(objects, name)
            eventually(lambda: post(process, known).status_code, until=lambda seen: seen == 200)
            cluster.stop_apiserver()
            assert post(process, known).status_code == 200
            refused = post(process, unknown)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
