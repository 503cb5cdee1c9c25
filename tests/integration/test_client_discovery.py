"""LM finds workers through a real API server."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import kubernetes.aio.config.incluster_config as incluster
import pytest

from modelworker import (
    LM,
    AccessDenied,
    ClusterUnavailable,
    ModelWorkerError,
    ModelWorkerNotFound,
    NoCluster,
    NotInstalled,
    NotReady,
    Rejected,
    _kube,
)
from modelworker_devcluster import DevCluster
from tests.client_support import StubWorker, good, workers
from tests.support import eventually

ROOT = Path(__file__).parents[2]


@dataclass
class Api:
    """A control plane with the CRD, and what LM said before it was installed."""

    cluster: DevCluster
    before: Exception
    namespace: str = ""

    def lm(self, name: str, **options: Any) -> LM:
        return LM(
            name,
            namespace=self.namespace,
            kubeconfig=str(self.cluster.kubeconfig),
            timeout=20,
            **options,
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def create(self, name: str, *ready: str, **status: Any) -> None:
        source = {"huggingFace": {"repo": "org/model", "revision": "0" * 40}}
        manifest = {
            "apiVersion": "modelworker.dev/v1alpha1",
            "kind": "ModelWorker",
            "metadata": {"name": name},
            "spec": {"model": {"source": source}},
        }
        self.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        self.set_status(name, *ready, **status)

    def set_status(self, name: str, *ready: str, **status: Any) -> None:
        listed = [
            {"pod": f"pod-{i}", "address": address, "state": "Ready"}
            for i, address in enumerate(ready)
        ]
        patch = {"status": {"workers": listed, **status}}
        self.kubectl(
            "patch", "mw", name, "--subresource=status", "--type=merge", "-p", json.dumps(patch)
        )


@pytest.fixture(scope="module")
def plane() -> Iterator[Api]:
    with DevCluster(kubelet=False) as cluster:
        with (
            pytest.raises(ModelWorkerError) as caught,
            LM("policy", kubeconfig=str(cluster.kubeconfig)) as lm,
        ):
            lm.generate("x")
        cluster.kubectl("apply", "-f", str(ROOT / "crds/modelworker.yaml"))
        # `kubectl wait` fails on a CRD that has no conditions yet.
        eventually(
            lambda: cluster.kubectl("get", "mw") == "",
            what="the API that the CRD adds",
        )
        yield Api(cluster, caught.value)


@pytest.fixture
def api(plane: Api) -> Iterator[Api]:
    plane.namespace = f"test-{uuid4().hex[:8]}"
    plane.cluster.kubectl("create", "namespace", plane.namespace)
    yield plane
    plane.cluster.kubectl("delete", "namespace", plane.namespace, "--wait=false")


def condition(kind: str, reason: str, message: str, **more: Any) -> dict[str, Any]:
    stated = {"type": kind, "status": "False", "reason": reason, "message": message}
    return {"conditions": [{**stated, "lastTransitionTime": "2026-01-01T00:00:00Z", **more}]}


def requests(api: Api) -> int:
    """Requests about ModelWorkers of this namespace in the audit log, other than kubectl's."""
    events = [json.loads(line) for line in api.cluster.audit_log.read_text().splitlines()]
    return sum(
        event.get("objectRef", {}).get("namespace") == api.namespace
        and not event["userAgent"].startswith("kubectl")
        for event in events
    )


def test_finds_the_ready_workers_and_asks_the_api_server_nothing_for_a_call(api: Api) -> None:
    with workers(good, good, good) as running:
        api.create("policy", running[0].address, running[1].address)
        with api.lm("policy") as lm:
            answers = lm.generate([f"p{i}" for i in range(20)])
            assert {answer.worker for answer in answers} == {"pod-0", "pod-1"}
            assert running[0].seen[0].body["model"] == f"{api.namespace}/policy"
            eventually(lambda: requests(api), until=lambda n: n >= 1, what="the list")
            before = requests(api)
            for i in range(100):
                lm.generate(f"q{i}")
            assert requests(api) - before <= 1, "at most the watch's own line, written late"


def test_changes_of_the_workers_are_followed(api: Api) -> None:
    with workers(good, good) as running:
        api.create("policy", running[0].address)
        with api.lm("policy") as lm:
            assert lm.generate("x").worker == "pod-0"
            api.set_status("policy", running[1].address)
            eventually(lm.workers, until=lambda known: known == (running[1].url,), what="the new")
            assert lm.generate("x").worker == "pod-1"
            api.set_status("policy", running[0].address, running[1].address)
            eventually(lm.workers, until=lambda known: len(known) == 2, what="both")


def test_calls_go_on_while_the_api_server_is_down(api: Api) -> None:
    with workers(good, good) as running:
        api.create("policy", running[0].address)
        with api.lm("policy") as lm:
            lm.generate("x")
            api.cluster.stop_apiserver()
            try:
                assert [a.text for a in lm.generate(["a", "b"])] == ["ok a", "ok b"]
                eventually(lambda: len(running[0].seen), until=lambda n: n == 3, what="calls")
            finally:
                api.cluster.start_apiserver()
            api.set_status("policy", running[1].address)
            eventually(
                lm.workers,
                until=lambda known: known == (running[1].url,),
                timeout=30,
                what="the change after the outage",
            )


def test_after_a_fork_the_child_watches_for_itself(api: Api) -> None:
    with workers(good) as (running,):
        api.create("policy", running.address)
        with api.lm("policy") as lm:
            lm.generate("before")
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    signal.alarm(30)
                    status = 0 if lm.generate("child").text == "ok child" else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            api.set_status("policy")
            eventually(lm.workers, until=lambda known: not known, what="the parent's watch")


def test_waits_until_a_worker_is_ready(api: Api) -> None:
    with workers(good) as (running,):
        api.create("policy", **condition("Ready", "Loading", "pod a loads"))
        come = threading.Timer(1.0, api.set_status, ("policy", running.address))
        come.start()
        with api.lm("policy") as lm:
            assert lm.generate("x").text == "ok x"
        come.join()


def test_not_ready_carries_the_conditions_words(api: Api) -> None:
    api.create("policy", **condition("Ready", "InsufficientGPU", "0 of 2 pods scheduled"))
    started = time.monotonic()
    with (
        api.lm("policy", ready_timeout=0.5) as lm,
        pytest.raises(NotReady, match=r"InsufficientGPU: 0 of 2 pods scheduled.*kubectl describe"),
    ):
        lm.generate("x")
    assert time.monotonic() - started < 15


def test_a_rejected_spec_fails_at_once_and_a_corrected_one_is_waited_for(api: Api) -> None:
    wrong = condition("Accepted", "InvalidSpec", "no such dtype", observedGeneration=1)
    api.create("policy", **wrong)
    with api.lm("policy") as lm, workers(good) as (running,):
        with pytest.raises(Rejected, match="InvalidSpec: no such dtype"):
            lm.generate("x")
        api.kubectl("patch", "mw", "policy", "--type=merge", "-p", '{"spec":{"replicas":2}}')
        come = threading.Timer(1.0, api.set_status, ("policy", running.address))
        come.start()
        eventually(
            lambda: api.kubectl("get", "mw", "policy", "-o=jsonpath={.metadata.generation}"),
            until=lambda generation: generation == "2",
        )
        assert _eventually_answers(lm)
        come.join()


def _eventually_answers(lm: LM) -> bool:
    return eventually(lambda: lm.generate("x").text == "ok x", what="an answer")


def test_unknown_name_says_which_exist(api: Api) -> None:
    api.create("critic")
    api.create("reward")
    with (
        api.lm("policy") as lm,
        pytest.raises(ModelWorkerNotFound, match=r"there are: critic, reward.*kubectl get mw"),
    ):
        lm.generate("x")
    assert issubclass(ModelWorkerNotFound, LookupError)


def test_a_deleted_object_is_not_found_and_its_successor_is(api: Api) -> None:
    with workers(good) as (running,):
        api.create("policy", running.address)
        with api.lm("policy") as lm:
            lm.generate("x")
            api.kubectl("delete", "mw", "policy")
            eventually(lm.workers, until=lambda known: not known, what="no workers")
            with pytest.raises(ModelWorkerNotFound):
                lm.generate("x")
            api.create("policy", running.address)
            assert lm.generate("y").text == "ok y"


def test_crd_not_installed(plane: Api) -> None:
    assert isinstance(plane.before, NotInstalled)
    assert "kubectl apply -f crds/" in str(plane.before)


def _token(api: Api, account: str) -> str:
    api.kubectl("create", "serviceaccount", account)
    return api.kubectl("create", "token", account).strip()


def test_missing_permission_names_the_verbs(api: Api, tmp_path: Path) -> None:
    raw = json.loads(api.kubectl("config", "view", "--raw", "-o=json"))
    raw["users"] = [{"name": "nobody", "user": {"token": _token(api, "nobody")}}]
    raw["contexts"][0]["context"]["user"] = "nobody"
    raw["contexts"][0]["context"]["namespace"] = api.namespace
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(raw))
    with LM("policy", kubeconfig=path) as lm:
        with pytest.raises(AccessDenied, match=r"cannot list.*verbs list and watch") as caught:
            lm.generate("x")
        assert api.namespace in str(caught.value), "the context's namespace is the default"
    raw["users"][0]["user"]["token"] = "wrong"
    path.write_text(json.dumps(raw))
    with (
        LM("policy", kubeconfig=path) as lm,
        pytest.raises(AccessDenied, match="does not accept the credentials"),
    ):
        lm.generate("x")


def test_inside_a_pod(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = urlsplit(api.cluster.server)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", server.hostname or "")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    (tmp_path / "token").write_text(_token(api, "caller"))
    (tmp_path / "namespace").write_text(api.namespace)
    root = api.kubectl("get", "cm", "-n=kube-system", "kube-root-ca.crt", "-o=json")
    (tmp_path / "ca.crt").write_text(json.loads(root)["data"]["ca.crt"])
    for module in (incluster, _kube):
        monkeypatch.setattr(module, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    verbs, kind = "--verb=get,list,watch", "--resource=modelworkers.modelworker.dev"
    api.kubectl("create", "role", "caller", verbs, kind)
    account = f"--serviceaccount={api.namespace}:caller"
    api.kubectl("create", "rolebinding", "caller", "--role=caller", account)
    gone = StubWorker(good)
    gone.stop()
    with workers(good) as (service,):
        api.create("policy", gone.address, url=service.url)
        with LM("policy") as lm:
            assert lm.generate("x").text == "ok x", "by the Service, as no pod can be reached"
            assert lm.workers() == (gone.url,)


def test_no_cluster_names_the_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with LM("policy") as lm:
        with pytest.raises(NoCluster, match=r"set KUBECONFIG.*inside a pod.*endpoints=\["):
            lm.generate("x")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
        with pytest.raises(NoCluster, match=r"missing cannot be used.*set KUBECONFIG"):
            lm.generate("x")
        broken = tmp_path / "broken"
        broken.write_text("{ not yaml")
        monkeypatch.setenv("KUBECONFIG", str(broken))
        with pytest.raises(NoCluster, match="broken cannot be used"):
            lm.generate("x")


def test_unknown_context(api: Api) -> None:
    with api.lm("policy", context="elsewhere") as lm, pytest.raises(NoCluster, match="elsewhere"):
        lm.generate("x")


def test_api_server_that_does_not_answer(api: Api, tmp_path: Path) -> None:
    raw = json.loads(api.kubectl("config", "view", "--raw", "-o=json"))
    raw["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(raw))
    with (
        LM("policy", kubeconfig=path) as lm,
        pytest.raises(ClusterUnavailable, match=r"127\.0\.0\.1:9 does not answer"),
    ):
        lm.generate("x")


def test_the_example_of_a_pod_is_admitted_where_pods_are_restricted(api: Api) -> None:
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    api.kubectl("label", "namespace", api.namespace, enforce)
    made = api.kubectl("apply", "-f", str(ROOT / "examples/client-pod.yaml"))
    assert "pod/modelworker-client created" in made
