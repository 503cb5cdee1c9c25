"""Whether a child has to be written again."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from modelworker_operator.desired import Manifest, desired_children
from modelworker_operator.drift import conflicting_owner, needs_apply
from tests.operator_objects import CONFIG, modelworker

WORKER = modelworker(
    resources={"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"cpu": "2"}},
    env=[{"name": "EMPTY", "value": ""}, {"name": "X", "value": "1"}],
    imagePullSecrets=[{"name": "s"}],
    scheduling={"tolerations": [{"key": "a", "operator": "Exists"}]},
)
DEPLOYMENT, SERVICE = desired_children(WORKER, CONFIG)


def pod(live: Manifest) -> Any:
    return live["spec"]["template"]["spec"]


def worker(live: Manifest) -> Any:
    return pod(live)["containers"][0]


def named(live: Manifest, name: str) -> Any:
    return next(item for item in worker(live)["env"] if item["name"] == name)


Edit = Callable[[Manifest], Any]


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda live: live.update(status={"replicas": 1}), id="status"),
        pytest.param(lambda live: (live.pop("kind"), live.pop("apiVersion")), id="item-of-a-list"),
        pytest.param(lambda live: live["metadata"].update(resourceVersion="9"), id="version"),
        pytest.param(lambda live: live["metadata"]["labels"].update(team="x"), id="label"),
        pytest.param(lambda live: live["metadata"]["annotations"].update(a="b"), id="annotation"),
        pytest.param(
            lambda live: live["metadata"]["ownerReferences"].insert(0, {"uid": "other"}), id="owner"
        ),
        pytest.param(lambda live: pod(live).update(dnsPolicy="ClusterFirst"), id="default"),
        pytest.param(lambda live: pod(live)["containers"].append({"name": "side"}), id="sidecar"),
        pytest.param(lambda live: worker(live)["env"].insert(0, {"name": "THEIRS"}), id="env"),
        pytest.param(lambda live: worker(live)["env"].reverse(), id="order-of-env"),
        pytest.param(lambda live: named(live, "EMPTY").pop("value"), id="empty-value-left-out"),
        pytest.param(
            lambda live: worker(live)["resources"]["requests"].update(cpu="500m", memory="1Gi"),
            id="quantities-of-equal-value",
        ),
        pytest.param(
            lambda live: worker(live)["readinessProbe"]["httpGet"].update(scheme="HTTP"), id="probe"
        ),
    ],
)
def test_left_alone(edit: Edit) -> None:
    live = copy.deepcopy(DEPLOYMENT)
    edit(live)
    assert not needs_apply(DEPLOYMENT, live)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda live: live["metadata"]["annotations"].clear(), id="hash-removed"),
        pytest.param(
            lambda live: live["metadata"]["annotations"].update(
                {"modelworker.dev/desired-hash": "x"}
            ),
            id="hash-differs",
        ),
        pytest.param(lambda live: live["metadata"]["labels"].clear(), id="labels"),
        pytest.param(lambda live: live["metadata"]["ownerReferences"].clear(), id="owner"),
        pytest.param(lambda live: live["spec"].update(replicas=5), id="scaled-by-hand"),
        pytest.param(lambda live: worker(live).update(image="x"), id="image"),
        pytest.param(lambda live: worker(live)["command"].append("--x"), id="command"),
        pytest.param(lambda live: named(live, "X").update(value="2"), id="env-value"),
        pytest.param(lambda live: worker(live)["env"].pop(), id="env-removed"),
        pytest.param(lambda live: named(live, "EMPTY").update(value="x"), id="env-filled"),
        pytest.param(lambda live: worker(live)["resources"]["limits"].update(cpu="3"), id="cpu"),
        pytest.param(lambda live: worker(live)["resources"].pop("limits"), id="limits"),
        pytest.param(lambda live: worker(live)["volumeMounts"].pop(0), id="mount"),
        pytest.param(
            lambda live: pod(live)["volumes"][0].update(emptyDir=None, hostPath={"path": "/"}),
            id="volume",
        ),
        pytest.param(
            lambda live: worker(live)["securityContext"].update(readOnlyRootFilesystem=False),
            id="security",
        ),
        pytest.param(lambda live: pod(live)["tolerations"].append({"key": "b"}), id="toleration"),
        pytest.param(lambda live: pod(live).pop("automountServiceAccountToken"), id="token"),
    ],
)
def test_repaired(edit: Edit) -> None:
    live = copy.deepcopy(DEPLOYMENT)
    edit(live)
    assert needs_apply(DEPLOYMENT, live)


@pytest.mark.parametrize(
    ("edit", "repaired"),
    [
        pytest.param(lambda live: live["spec"].update(clusterIP="10.0.0.1"), False, id="ip"),
        pytest.param(
            lambda live: live["spec"]["ports"][0].update(nodePort=3), False, id="node-port"
        ),
        pytest.param(
            lambda live: live["spec"]["ports"].append({"port": 9}), False, id="more-ports"
        ),
        pytest.param(lambda live: live["spec"]["ports"][0].update(port=9), True, id="port"),
        pytest.param(lambda live: live["spec"]["selector"].clear(), True, id="selector"),
        pytest.param(lambda live: live["spec"].update(type="NodePort"), True, id="type"),
    ],
)
def test_service(edit: Edit, repaired: bool) -> None:
    live = copy.deepcopy(SERVICE)
    edit(live)
    assert needs_apply(SERVICE, live) is repaired


def test_missing_child_is_applied() -> None:
    assert needs_apply(DEPLOYMENT, None)


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("0.1", "100m", True),
        ("1Gi", "1024Mi", True),
        ("1e3", "1k", True),
        ("1E", "1e18", True),
        ("2", "2000m", True),
        ("1G", "1Gi", False),
        ("1", "many", False),
        ("many", "1", False),
        ("", "1", False),
    ],
)
def test_quantities(ours: str, theirs: str, same: bool) -> None:
    desired = {"metadata": {}, "spec": {"limits": {"memory": ours}}}
    live = {"metadata": {}, "spec": {"limits": {"memory": theirs}}}
    assert needs_apply(desired, live) is not same


@pytest.mark.parametrize(
    ("owners", "conflict"),
    [
        pytest.param([{"uid": "uid-smol", "controller": True}], None, id="ours"),
        pytest.param([], "an object without a controller", id="nobody"),
        pytest.param([{"uid": "uid-smol"}], "an object without a controller", id="not-controlled"),
        pytest.param(
            [{"uid": "x", "controller": True, "kind": "Other", "name": "o"}],
            "an object of Other o",
            id="another",
        ),
        pytest.param(
            [{"uid": "old", "controller": True, "kind": "ModelWorker", "name": "smol"}],
            "an object of ModelWorker smol",
            id="an-earlier-object-of-the-same-name",
        ),
    ],
)
def test_conflicting_owner(owners: list[dict[str, Any]], conflict: str | None) -> None:
    assert conflicting_owner(WORKER, {"metadata": {"ownerReferences": owners}}) == conflict


def test_free_name_is_no_conflict() -> None:
    assert conflicting_owner(WORKER, None) is None
