"""An operator with exactly the rights that the documentation names, each of which it uses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from modelworker_api import kube
from modelworker_devcluster import DevCluster
from tests.audit import Right, refused
from tests.operator_pods import bind, post, run, token
from tests.operator_rights import CLUSTER, OWN, SERVED, documented, rules, used
from tests.operator_support import Objects, OperatorProcess, install_crds, operator
from tests.support import eventually

ACCOUNT: Final = "operator"
SERVICE: Final = "modelworker-operator"


def grant(cluster: DevCluster, namespace: str | None, rights: set[Right], account: str) -> None:
    """Give rights in a namespace, or in the whole cluster, to the service account of another."""
    kind, name = ("Role", "operator") if namespace else ("ClusterRole", f"operator-{account}")
    group = "rbac.authorization.k8s.io"
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": account}
    items: list[dict[str, Any]] = [
        {"kind": kind, "rules": rules(rights)},
        {
            "kind": f"{kind}Binding",
            "roleRef": {"apiGroup": group, "kind": kind, "name": name},
            "subjects": [subject],
        },
    ]
    for item in items:
        full = {"apiVersion": f"{group}/v1", "metadata": meta, **item}
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(full))


def kubeconfig_of(cluster: DevCluster, namespace: str, folder: Path) -> Path:
    """A kubeconfig of the service account in `namespace`."""
    bearer = cluster.kubectl("create", "token", ACCOUNT, "-n", namespace)
    view = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o=json"))
    view["users"] = [{"name": view["contexts"][0]["context"]["user"], "user": {"token": bearer}}]
    file = folder / "kubeconfig"
    file.write_text(json.dumps(view))
    return file


@pytest.fixture(scope="module")
def namespaces(control_plane: DevCluster) -> dict[str, str]:
    """The operator's own namespace and one that it serves, by their scope."""
    install_crds(control_plane)
    names = {scope: f"{scope}-{uuid4().hex[:6]}" for scope in (OWN, SERVED)}
    for name in names.values():
        control_plane.kubectl("create", "namespace", name)
    control_plane.kubectl("create", "serviceaccount", ACCOUNT, "-n", names[OWN])
    control_plane.kubectl("create", "service", "clusterip", SERVICE, "--tcp=8085", "-n", names[OWN])
    control_plane.kubectl(
        "patch", "service", SERVICE, "-n", names[OWN], "-p", '{"spec": {"selector": null}}'
    )
    rights = documented()
    for scope, namespace in ((SERVED, names[SERVED]), (OWN, names[OWN]), (CLUSTER, None)):
        grant(control_plane, namespace, rights[scope], names[OWN])
    return names


@pytest.fixture(scope="module")
def running(
    control_plane: DevCluster, namespaces: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """An operator with that service account."""
    file = kubeconfig_of(control_plane, namespaces[OWN], tmp_path_factory.mktemp("account"))
    settings = {
        "KUBECONFIG": str(file),
        "NAMESPACE": namespaces[OWN],
        "PUBLISH_SERVICE": SERVICE,
        "POD_IP": "10.0.0.7",
    }
    with operator(control_plane, namespaces[SERVED], environment=settings) as process:
        yield process


def test_every_right_of_the_documentation_is_used_and_none_is_missing(
    control_plane: DevCluster, namespaces: dict[str, str], running: OperatorProcess
) -> None:
    for kind in kube.KINDS:
        objects = Objects(control_plane, namespaces[SERVED], kind)
        objects.apply_worker("one")
        objects.wait_children("one")
        objects.wait_reconciled("one")
    objects = Objects(control_plane, namespaces[SERVED])
    pod = eventually(
        lambda: objects.get("pods", "-l", objects.selector("one"))["items"], what="a pod"
    )[0]["metadata"]["name"]
    bind(objects, pod)
    run(objects, pod)
    bearer = token(objects, pod)
    eventually(
        lambda: post(running, bearer, {"state": "Loading"}).status_code,
        until=lambda code: code == 200,
        what="a heartbeat that is taken",
    )
    user = f"system:serviceaccount:{namespaces[OWN]}:{ACCOUNT}"
    scopes = {name: scope for scope, name in namespaces.items()}
    wanted = documented()
    eventually(
        lambda: used(control_plane.audit_log, user, scopes),
        until=lambda found: found == wanted,
        what="use of every right",
    )
    running.stop()
    assert used(control_plane.audit_log, user, scopes) == wanted
    assert refused(control_plane.audit_log, user) == set()
    assert not any(right.resource == "secrets" for found in wanted.values() for right in found)
