"""LM through a real API server's proxy. `test_client_proxy.py` runs this where it can work.

The API server passes nothing on to loopback addresses, so these tests need a network
namespace in which `POD_HOST` is an address. The workers' addresses in the status lead
nowhere, as they do for whoever is outside a cluster.
"""

import asyncio
import base64
import json
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from modelworker import LM, AccessDenied, ClusterUnavailable, ContextTooLong, Unreachable
from modelworker_api import kube
from modelworker_devcluster import DevCluster
from tests.client_support import (
    Behaviour,
    Reply,
    Request,
    StubWorker,
    chunk,
    error,
    good,
    hang,
    parts,
    wanting,
)
from tests.support import eventually

ROOT = Path(__file__).parents[1]
POD_HOST = "10.98.0.1"
NOWHERE = "10.99.0.1"


@dataclass
class Outside:
    """A cluster whose pods only the API server reaches."""

    cluster: DevCluster
    namespace: str
    workers: list[StubWorker]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def serve(self, *behaviours: Behaviour) -> list[StubWorker]:
        """A ModelWorker `policy` with a pod and a worker for each behaviour."""
        made = [StubWorker(one, name=f"pod-{i}", host=POD_HOST) for i, one in enumerate(behaviours)]
        self.workers += made
        for one in made:
            self._pod(one.name)
        source = {"huggingFace": {"repo": "org/model", "revision": "0" * 40}}
        manifest = {
            "apiVersion": kube.API_VERSION,
            "kind": kube.MODELWORKER.kind,
            "metadata": {"name": "policy"},
            "spec": {"model": {"source": source}},
        }
        self.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        listed = [
            {"pod": one.name, "address": f"{NOWHERE}:{one.port}", "state": "Ready"} for one in made
        ]
        self._status("mw/policy", {"workers": listed})
        return made

    def _pod(self, name: str) -> None:
        container = {"name": kube.WORKER_CONTAINER, "image": "none"}
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": [container]},
        }
        self.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        self._status(f"pod/{name}", {"podIP": POD_HOST, "podIPs": [{"ip": POD_HOST}]})

    def _status(self, what: str, status: dict[str, Any]) -> None:
        patch = json.dumps({"status": status})
        self.kubectl("patch", what, "--subresource=status", "--type=merge", "-p", patch)

    def lm(self, kubeconfig: Path | None = None, **options: Any) -> LM:
        return LM(
            "policy",
            namespace=self.namespace,
            kubeconfig=kubeconfig or self.cluster.kubeconfig,
            timeout=20,
            **options,
        )

    def account(self, name: str, *rights: str) -> str:
        """A token for the API of a new account, which may do `VERBS on RESOURCES`."""
        self.kubectl("create", "serviceaccount", name)
        for number, right in enumerate(rights):
            verbs, _, resources = right.partition(" on ")
            role = f"{name}-{number}"
            self.kubectl("create", "role", role, f"--verb={verbs}", f"--resource={resources}")
            account = f"--serviceaccount={self.namespace}:{name}"
            self.kubectl("create", "rolebinding", role, f"--role={role}", account)
        return self.kubectl("create", "token", name).strip()

    def kubeconfig(self, path: Path, user: dict[str, Any]) -> Path:
        """A kubeconfig of this cluster for another user."""
        raw = json.loads(self.kubectl("config", "view", "--raw", "-o=json"))
        raw["users"] = [{"name": "other", "user": user}]
        raw["contexts"][0]["context"]["user"] = "other"
        path.write_text(json.dumps(raw))
        return path


@pytest.fixture(scope="module")
def cluster() -> Iterator[DevCluster]:
    with DevCluster(kubelet=False) as made:
        made.kubectl("apply", "-f", str(ROOT / "crds/modelworker.yaml"))
        # `kubectl wait` fails on a CRD that has no conditions yet.
        eventually(lambda: made.kubectl("get", "mw") == "", what="the API that the CRD adds")
        yield made


@pytest.fixture
def outside(cluster: DevCluster) -> Iterator[Outside]:
    namespace = f"test-{uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", namespace)
    made = Outside(cluster, namespace, [])
    eventually(lambda: made.kubectl("get", "serviceaccount", "default"), what="its account")
    yield made
    for one in made.workers:
        one.stop()
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def claims(token: str) -> dict[str, Any]:
    """What a token says of itself."""
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=="))
    return found


WATCH = "get,list,watch on modelworkers.modelworker.dev"
PROXY = "create on pods/proxy"
TOKEN = "create on serviceaccounts/token"


def test_calls_go_through_with_a_token_of_the_objects_namespace(outside: Outside) -> None:
    running = outside.serve(wanting(), wanting())
    with outside.lm() as lm:
        answers = lm.generate([f"p{i}" for i in range(100)])
        assert [answer.text for answer in answers] == [f"ok p{i}" for i in range(100)]
        assert {answer.worker for answer in answers} == {"pod-0", "pod-1"}
        assert sorted(lm.workers()) == sorted(f"http://{NOWHERE}:{w.port}" for w in running)
    seen = [request for one in running for request in one.seen]
    assert all("authorization" not in request.headers for request in seen)
    tokens = {request.headers["x-api-key"] for request in seen if "x-api-key" in request.headers}
    (token,) = tokens
    assert claims(token)["aud"] == [kube.INFERENCE_AUDIENCE]
    assert claims(token)["sub"] == f"system:serviceaccount:{outside.namespace}:default"


def test_the_account_can_be_chosen(outside: Outside) -> None:
    (running,) = outside.serve(wanting())
    outside.kubectl("create", "serviceaccount", "caller")
    with outside.lm(service_account="caller") as lm:
        lm.generate("x")
    token = running.seen[-1].headers["x-api-key"]
    assert claims(token)["sub"].endswith(":caller")
    with (
        outside.lm(service_account="nobody") as lm,
        pytest.raises(AccessDenied, match=r"no service account .*/nobody.*create serviceaccount"),
    ):
        lm.generate("x")


def test_a_large_prompt_goes_through(outside: Outside) -> None:
    (running,) = outside.serve(wanting())
    with outside.lm() as lm:
        lm.generate("x" * 2_000_000)
    assert len(running.seen[-1].body["prompt"]) == 2_000_000


def test_a_stream_comes_part_by_part_and_ends_on_the_worker_when_closed(outside: Outside) -> None:
    go_on = threading.Event()

    async def wait() -> None:
        while not go_on.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.005)

    async def stream(_: Request) -> Reply:
        events = parts(chunk("a", 1), chunk("b", 2), then=wait)
        return Reply(parts=events, headers={"content-type": "text/event-stream"}, cut=True)

    (running,) = outside.serve(wanting(then=stream))
    with outside.lm() as lm:
        received = lm.stream("x")
        assert [next(received).text, next(received).text] == ["a", "b"]
        assert not go_on.is_set()
        received.close()
        eventually(lambda: running.gone, until=lambda n: n == 1, what="an end on the worker")


def test_a_pod_that_is_gone_or_refuses_is_left_for_another(outside: Outside) -> None:
    gone, stopped, _ = outside.serve(good, good, good)
    outside.kubectl("delete", "pod", gone.name, "--grace-period=0", "--force")
    stopped.stop()
    with outside.lm() as lm:
        answers = lm.generate([f"p{i}" for i in range(12)])
        assert {answer.worker for answer in answers} == {"pod-2"}


def test_without_any_pod_it_says_why(outside: Outside) -> None:
    (stopped,) = outside.serve(good)
    stopped.stop()
    with (
        outside.lm() as lm,
        pytest.raises(Unreachable, match=r"error trying to reach service.*kubectl get pods"),
    ):
        lm.generate("x", timeout=2)


def test_a_workers_own_error_is_told_as_such(outside: Outside) -> None:
    async def too_long(_: Request) -> Reply:
        return error(400, "maximum context length is 8", "context_length_exceeded")

    outside.serve(too_long)
    with outside.lm() as lm, pytest.raises(ContextTooLong, match="maximum context length is 8"):
        lm.generate("x")


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        pytest.param(
            [WATCH, TOKEN], "create role .* --verb=create --resource=pods/proxy", id="proxy"
        ),
        pytest.param(
            [WATCH, PROXY],
            "--resource=serviceaccounts/token --resource-name=default.*api_key",
            id="token",
        ),
    ],
)
def test_a_missing_right_is_named(
    outside: Outside, tmp_path: Path, rights: list[str], words: str
) -> None:
    outside.serve(wanting())
    user = {"token": outside.account("user", *rights)}
    with (
        outside.lm(outside.kubeconfig(tmp_path / "config", user)) as lm,
        pytest.raises(AccessDenied, match=words) as caught,
    ):
        lm.generate("x")
    assert user["token"] not in str(caught.value)


def test_these_rights_are_enough(outside: Outside, tmp_path: Path) -> None:
    outside.serve(wanting())
    user = {"token": outside.account("user", WATCH, PROXY, TOKEN)}
    with outside.lm(outside.kubeconfig(tmp_path / "config", user)) as lm:
        assert lm.generate("x").text == "ok x"


def test_the_servers_name_may_be_another_than_its_address(outside: Outside, tmp_path: Path) -> None:
    outside.serve(wanting())
    raw = json.loads(outside.kubectl("config", "view", "--raw", "-o=json"))
    for name, answered in (("kubernetes.default", True), ("elsewhere.example", False)):
        raw["clusters"][0]["cluster"]["tls-server-name"] = name
        path = tmp_path / name
        path.write_text(json.dumps(raw))
        with outside.lm(path, ready_timeout=2) as lm:
            if answered:
                assert lm.generate("x").text == "ok x"
            else:
                with pytest.raises(ClusterUnavailable, match="elsewhere"):
                    lm.generate("x")


def test_a_given_token_needs_no_right_to_issue_one(outside: Outside, tmp_path: Path) -> None:
    outside.serve(wanting("mine"))
    user = {"token": outside.account("user", WATCH, PROXY)}
    with outside.lm(outside.kubeconfig(tmp_path / "config", user), api_key="mine") as lm:
        assert lm.generate("x").text == "ok x"


def test_credentials_of_a_plugin_that_ran_out_are_asked_for_again(
    outside: Outside, tmp_path: Path
) -> None:
    outside.serve(good)
    credentials = tmp_path / "credentials"
    plugin = tmp_path / "plugin"
    good_token = outside.account("user", WATCH, PROXY)
    kind = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}

    def give(token: str) -> str:
        return json.dumps({**kind, "status": {"token": token}})

    # The first is for discovery, the second has run out, the rest are good.
    plugin.write_text(
        f"#!/bin/sh\necho x >> {credentials}\n"
        f"if [ $(wc -l < {credentials}) = 2 ]; then echo '{give('run-out')}'\n"
        f"else echo '{give(good_token)}'; fi\n"
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    user = {"exec": {**kind, "command": str(plugin), "interactiveMode": "Never"}}
    with outside.lm(outside.kubeconfig(tmp_path / "config", user)) as lm:
        assert lm.generate("x").text == "ok x"
    assert len(credentials.read_text().split()) == 3


def test_a_deadline_holds_on_the_way(outside: Outside) -> None:
    (running,) = outside.serve(hang)
    with outside.lm() as lm:
        with pytest.raises(TimeoutError):
            lm.generate("x", timeout=1)
        eventually(lambda: running.gone, until=lambda n: n == 1, what="an end on the worker")
