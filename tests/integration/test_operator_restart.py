"""The operator killed at every step, restarted, and without an API server for a while."""

import functools
import signal

import pytest

from modelworker_devcluster import DevCluster
from modelworker_operator.reconcile import STEPS
from tests.operator_support import (
    ROOT,
    Audit,
    Objects,
    OperatorProcess,
    install_crds,
    operator,
)
from tests.support import eventually

ALONE = {"LEADER_ELECT": "false"}


@pytest.fixture
def objects(control_plane: DevCluster, control_plane_namespace: str) -> Objects:
    install_crds(control_plane)
    return Objects(control_plane, control_plane_namespace)


def uids(objects: Objects, name: str) -> dict[str, str]:
    """Uid of each child."""
    return {kind: found["metadata"]["uid"] for kind, found in objects.children(name).items()}


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_the_next_one_finishes(objects: Objects, step: str) -> None:
    crashing = OperatorProcess(
        objects.cluster, objects.namespace, "crashing", {"FAIL_AT": step, **ALONE}
    )
    objects.apply_worker("crashed")
    assert crashing.wait_ended(60) == -signal.SIGKILL, crashing.log.read_text()
    left = uids(objects, "crashed")
    audit = Audit(objects.cluster)
    with operator(objects.cluster, objects.namespace, identity="next"):
        objects.wait_reconciled("crashed")
        objects.wait_children("crashed")
        assert left.items() <= uids(objects, "crashed").items()
    assert len(objects.get("deployments,services")["items"]) == 2
    # What was there already was not written again.
    made = [write for write in audit.brief("next") if write[1] in ("deployments", "services")]
    assert len(made) == 2 - len(left)


def test_restart_with_converged_objects_writes_nothing(objects: Objects) -> None:
    names = [f"calm-{number}" for number in range(10)]
    with operator(objects.cluster, objects.namespace, identity="first") as first:
        for name in names:
            objects.apply_worker(name, replicas=0)
        for name in names:
            objects.wait_children(name)
            objects.wait_reconciled(name)
            eventually(
                functools.partial(objects.condition, name, "Progressing"),
                until=lambda seen: seen.get("reason") == "RolloutComplete",
                what=f"a settled {name}",
            )
        first.kill()
    before = objects.get("mw,deployments,services")["items"]
    audit = Audit(objects.cluster)
    with operator(
        objects.cluster, objects.namespace, identity="second", environment=ALONE
    ) as second:
        eventually(
            lambda: second.metric(
                'controller_runtime_reconcile_total{controller="modelworker",result="success"}'
            ),
            until=lambda seen: seen >= len(names),
            what="a pass over each object",
        )
    assert audit.brief("second") == []
    assert objects.get("mw,deployments,services")["items"] == before


def test_deletion_while_the_operator_is_down_is_no_trouble(objects: Objects) -> None:
    with operator(objects.cluster, objects.namespace, identity="first") as first:
        objects.apply_worker("gone")
        objects.wait_children("gone")
        first.kill()
    objects.kubectl("delete", "mw", "gone")
    with operator(objects.cluster, objects.namespace, identity="second", environment=ALONE):
        eventually(
            lambda: objects.children("gone"), until=lambda seen: not seen, what="no children"
        )
        objects.apply_worker("gone")
        objects.wait_children("gone")


def test_operator_outlives_the_api_server() -> None:
    with DevCluster(kubelet=False) as cluster:
        install_crds(cluster)
        objects = Objects(cluster, "default")
        with operator(cluster, "default") as process:
            objects.apply_worker("before")
            objects.wait_children("before")
            objects.wait_reconciled("before")
            cluster.stop_apiserver()
            eventually(
                lambda: process.get("/readyz").text,
                until=lambda seen: "lease was not renewed" in seen,
                timeout=40,
                what="an operator that holds back its writes",
            )
            assert process.get("/healthz").status_code == 200
            cluster.start_apiserver()
            objects.apply_worker("after")
            objects.kubectl("delete", "service", "mw-before")
            objects.wait_children("after", timeout=10)
            objects.wait_children("before", timeout=10)
            assert process.process.poll() is None


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        pytest.param(
            {"KUBECONFIG": "/nowhere/kubeconfig"}, 2, "set KUBECONFIG or --kubeconfig", id="none"
        ),
        pytest.param({"CONTEXT": "nowhere"}, 2, "--context", id="context"),
        pytest.param({"WORKERS": "0"}, 2, "workers", id="settings"),
        pytest.param({"HEALTH_HOST": "192.0.2.1"}, 2, "--health-host", id="address"),
    ],
)
def test_start_that_cannot_work_says_why(
    objects: Objects, environment: dict[str, str], code: int, words: str
) -> None:
    process = OperatorProcess(objects.cluster, objects.namespace, environment=environment)
    assert process.wait_ended(30) == code, process.log.read_text()
    assert words in process.log.read_text()


def test_without_a_crd_it_says_how_to_install_it() -> None:
    with DevCluster(kubelet=False) as cluster:

        def last_word() -> str:
            process = OperatorProcess(cluster, "default")
            assert process.wait_ended(30) == 3, process.log.read_text()
            return process.log.read_text()

        assert "does not know ModelWorkers and RewardModels; install" in last_word()
        cluster.kubectl("apply", "-f", str(ROOT / "crds/modelworker.yaml"))
        eventually(
            lambda: cluster.kubectl("api-resources", "--api-group=modelworker.dev", "-o=name"),
            what="served ModelWorkers",
        )
        words = last_word()
        assert "does not know RewardModels; install" in words
        assert "kubectl apply -f crds/" in words
