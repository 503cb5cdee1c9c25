"""Reconciling and repairing on a real API server."""

import json
from collections.abc import Iterator

import pytest

from modelworker_devcluster import DevCluster
from tests.operator_support import Audit, Objects, OperatorProcess, install_crds, operator
from tests.support import eventually


@pytest.fixture(scope="module")
def running(control_plane: DevCluster) -> Iterator[OperatorProcess]:
    """An operator for the namespace of this module."""
    install_crds(control_plane)
    control_plane.kubectl("create", "namespace", "reconcile")
    with operator(control_plane, "reconcile") as process:
        yield process


@pytest.fixture
def objects(running: OperatorProcess) -> Objects:
    return Objects(running.cluster, running.namespace)


def test_apply_makes_the_children_and_the_status(objects: Objects) -> None:
    objects.apply_worker("fresh", replicas=2)
    children = objects.wait_children("fresh", timeout=5)
    found = objects.wait_reconciled("fresh")
    status = found["status"]
    assert objects.condition("fresh", "Accepted")["status"] == "True"
    assert status["url"].startswith("http://mw-fresh.reconcile.svc:")
    assert [child["metadata"]["name"] for child in children.values()] == ["mw-fresh", "mw-fresh"]
    for child in children.values():
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (found["metadata"]["uid"], True)
    assert "finalizers" not in found["metadata"]
    eventually(
        lambda: objects.get("events", "--field-selector=involvedObject.name=fresh")["items"],
        what="Events about the object",
    )


@pytest.mark.parametrize("kind", ["Deployment", "Service"])
def test_deleted_child_comes_back(objects: Objects, kind: str) -> None:
    name = f"deleted-{kind.lower()}"
    objects.apply_worker(name)
    before = objects.wait_children(name)[kind]["metadata"]["uid"]
    objects.wait_reconciled(name)
    objects.kubectl("delete", kind, f"mw-{name}", "--wait=false")
    eventually(
        lambda: objects.children(name).get(kind, {}).get("metadata", {}).get("uid", before),
        until=lambda uid: uid != before,
        timeout=5,
        what=f"a new {kind}",
    )


@pytest.mark.parametrize(
    ("kind", "patch", "path"),
    [
        pytest.param(
            "deployment",
            {"spec": {"replicas": 7}},
            ("spec", "replicas"),
            id="deployment-replicas",
        ),
        pytest.param(
            "deployment",
            {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 7}}}},
            ("spec", "template", "spec", "terminationGracePeriodSeconds"),
            id="deployment-template",
        ),
        pytest.param(
            "service", {"spec": {"selector": {"stolen": "yes"}}}, ("spec", "selector"), id="service"
        ),
        pytest.param(
            "service",
            {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}},
            ("metadata", "labels", "app.kubernetes.io/managed-by"),
            id="label-that-is-watched",
        ),
    ],
)
def test_edited_child_is_repaired_and_foreign_fields_are_kept(
    objects: Objects, kind: str, patch: dict[str, object], path: tuple[str, ...]
) -> None:
    name = f"edited-{path[-1].lower().rpartition('/')[2]}"
    objects.apply_worker(name)
    objects.wait_children(name)
    objects.wait_reconciled(name)
    objects.kubectl("annotate", kind, f"mw-{name}", "someone.example/note=kept")
    objects.kubectl("label", kind, f"mw-{name}", "team=search")

    def value() -> object:
        found: object = objects.get(kind, f"mw-{name}")
        for key in path:
            assert isinstance(found, dict)
            found = found.get(key)
        return found

    right = value()
    objects.kubectl("patch", kind, f"mw-{name}", "--type=merge", "-p", json.dumps(patch))
    if path[-1] == "selector":
        # A key that was added stays with its owner; ours has to be there.
        assert isinstance(right, dict)
        eventually(value, until=lambda seen: right.items() <= seen.items(), timeout=5)  # type: ignore[attr-defined]
    else:
        eventually(value, until=lambda seen: seen == right, timeout=5, what=f"{right} again")
    meta = objects.get(kind, f"mw-{name}")["metadata"]
    assert meta["annotations"]["someone.example/note"] == "kept"
    assert meta["labels"]["team"] == "search"


def test_a_status_that_somebody_else_wrote_is_overwritten(objects: Objects) -> None:
    objects.apply_worker("lied-about")
    url = objects.wait_reconciled("lied-about")["status"]["url"]
    false = {
        "url": "http://evil.example:8000",
        "readyReplicas": 9,
        "workers": [{"pod": "evil", "state": "Ready", "address": "192.0.2.1:8000"}],
    }
    objects.kubectl(
        "patch",
        "mw",
        "lied-about",
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": false}),
    )
    status = eventually(
        lambda: objects.status("lied-about"),
        until=lambda seen: seen["url"] == url,
        timeout=10,
        what="the true status",
    )
    assert status["readyReplicas"] == 0
    assert "evil" not in json.dumps(status)


@pytest.mark.parametrize("labels", [{}, {"app.kubernetes.io/managed-by": "modelworker"}])
def test_foreign_child_of_the_same_name_is_left_alone(
    objects: Objects, labels: dict[str, str]
) -> None:
    name = f"conflict-{len(labels)}"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"mw-{name}", "labels": labels},
        "spec": {"ports": [{"port": 1234}]},
    }
    objects.apply(service)
    before = objects.get("service", f"mw-{name}")
    objects.apply_worker(name)
    accepted = eventually(
        lambda: objects.condition(name, "Accepted"),
        until=lambda seen: seen.get("reason") == "ChildConflict",
        what="ChildConflict",
    )
    assert f"mw-{name}" in accepted["message"]
    assert objects.status(name).get("observedGeneration") is None
    assert objects.get("service", f"mw-{name}") == before
    objects.kubectl("delete", "service", f"mw-{name}")
    eventually(
        lambda: objects.condition(name, "Accepted"),
        until=lambda seen: seen.get("status") == "True",
        timeout=35,
        what="acceptance after the conflict is gone",
    )


def test_scale_works_and_is_not_fought(objects: Objects) -> None:
    objects.apply_worker("scaled")
    objects.wait_children("scaled")
    objects.kubectl("scale", "mw", "scaled", "--replicas=3")
    eventually(
        lambda: objects.get("deployment", "mw-scaled")["spec"]["replicas"],
        until=lambda seen: seen == 3,
        timeout=5,
        what="three replicas",
    )
    objects.wait_reconciled("scaled")
    scale = json.loads(
        objects.kubectl(
            "get",
            "--raw",
            f"/apis/modelworker.dev/v1alpha1/namespaces/{objects.namespace}/modelworkers/scaled/scale",
        )
    )
    assert scale["spec"]["replicas"] == 3
    assert scale["status"]["selector"] == objects.status("scaled")["selector"]


def test_rejected_child_is_named_in_the_status_and_others_go_on(objects: Objects) -> None:
    objects.apply_worker("rejected", scheduling={"nodeSelector": {"disk": "not a label!"}})
    accepted = eventually(
        lambda: objects.condition("rejected", "Accepted"),
        until=lambda seen: seen.get("reason") == "ApplyRejected",
        what="ApplyRejected",
    )
    assert "not a label!" in accepted["message"]
    objects.apply_worker("beside")
    objects.wait_children("beside", timeout=5)
    objects.apply_worker("rejected", scheduling={"nodeSelector": {"disk": "fast"}})
    objects.wait_children("rejected", timeout=5)


def test_deleted_object_takes_its_children_along(objects: Objects) -> None:
    objects.apply_worker("short")
    objects.wait_children("short")
    objects.kubectl("delete", "mw", "short")
    eventually(
        lambda: objects.children("short"),
        until=lambda seen: not seen,
        timeout=60,  # The garbage collector learns of a new kind twice a minute.
        what="no children",
    )


def test_at_rest_nothing_is_written(objects: Objects, running: OperatorProcess) -> None:
    objects.apply_worker("resting")
    objects.wait_children("resting")
    objects.wait_reconciled("resting")
    eventually(
        lambda: objects.condition("resting", "Ready").get("reason"),
        until=lambda seen: seen == "Unschedulable",
        what="a settled status",
    )
    audit = Audit(objects.cluster)
    generation = objects.get("deployment", "mw-resting")["metadata"]["generation"]
    objects.kubectl("annotate", "mw", "resting", "poke=1")  # A pass over the object...
    passes = running.metric(
        'controller_runtime_reconcile_total{controller="modelworker",result="success"}'
    )
    objects.kubectl("annotate", "mw", "resting", "poke=2", "--overwrite")
    eventually(
        lambda: running.metric(
            'controller_runtime_reconcile_total{controller="modelworker",result="success"}'
        ),
        until=lambda seen: seen > passes,
        what="another pass",
    )
    assert audit.brief("operator-a") == []  # ...writes nothing.
    assert objects.get("deployment", "mw-resting")["metadata"]["generation"] == generation
