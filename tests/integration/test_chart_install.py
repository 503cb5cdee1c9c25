"""The life of a release on a real API server, in a namespace that enforces `restricted`."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from modelworker_api import kube
from modelworker_devcluster import DevCluster
from tests import audit
from tests.chart_support import (
    CHART,
    RELEASE,
    RESTRICTED,
    Helm,
    Object,
    copy_of_chart,
    documents,
    one,
    settings,
)
from tests.operator_manifests import manifest
from tests.operator_support import OperatorProcess
from tests.support import eventually


@pytest.fixture
def helm(control_plane: DevCluster, tmp_path: Path) -> Iterator[Helm]:
    """Helm in a namespace of its own; what it installed is gone afterwards."""
    name = f"chart-{uuid4().hex[:8]}"
    crds = [f"crd/{kind.plural}.{kube.GROUP}" for kind in kube.KINDS]
    control_plane.kubectl(
        "delete", *crds, "--ignore-not-found"
    )  # of other tests, without Helm's marks
    control_plane.kubectl("create", "namespace", name)
    control_plane.kubectl("label", "namespace", name, *RESTRICTED)
    yield Helm(tmp_path, control_plane.kubeconfig, name)
    control_plane.kubectl("delete", *crds, "--ignore-not-found")
    control_plane.kubectl("delete", "namespace", name, "--wait=false")
    of_release = ("-l", f"app.kubernetes.io/instance={RELEASE}")
    control_plane.kubectl("delete", "clusterrole,clusterrolebinding", *of_release)


def without_newest_field(chart: Path, kind: kube.Kind) -> None:
    """Take `spec.auth` out of a chart's CRD, as if it were of a time before it."""
    file = chart / "files" / "crds" / f"{kind.kind.lower()}.yaml"
    crd = yaml.safe_load(file.read_text())
    for version in crd["spec"]["versions"]:
        del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["auth"]
    file.write_text(yaml.dump(crd, Dumper=NoAliases))


class NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def fields_of(control_plane: DevCluster, kind: kube.Kind) -> set[str]:
    crd = json.loads(control_plane.kubectl("get", "crd", f"{kind.plural}.{kube.GROUP}", "-o=json"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return set(schema["properties"]["spec"]["properties"])


def workers_of(control_plane: DevCluster, namespace: str) -> dict[str, tuple[str, int]]:
    """The uid and the generation of each Deployment, by name."""
    found = json.loads(control_plane.kubectl("get", "deployments", "-n", namespace, "-o=json"))[
        "items"
    ]
    return {
        each["metadata"]["name"]: (each["metadata"]["uid"], each["metadata"]["generation"])
        for each in found
    }


@pytest.fixture
def run_operator(
    helm: Helm, control_plane: DevCluster, tmp_path: Path
) -> Iterator[Callable[[list[Object]], None]]:
    """Starts the operator as a pod of the chart would: its settings, its rights, nothing else."""
    started: list[OperatorProcess] = []

    def start(objects: list[Object]) -> None:
        for process in started:
            process.stop()
        account = one(objects, "ServiceAccount")["metadata"]["name"]
        token = control_plane.kubectl("create", "token", account, "-n", helm.namespace).strip()
        config = yaml.safe_load(control_plane.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        file = tmp_path / "operator.kubeconfig"
        file.write_text(yaml.safe_dump(config))
        environment = {
            **settings(objects),
            "NAMESPACE": helm.namespace,
            "POD_IP": "10.0.0.7",
            "KUBECONFIG": str(file),
        }
        process = OperatorProcess(
            control_plane, helm.namespace, f"chart-{len(started)}", environment
        )
        started.append(process)
        process.wait_leading()

    yield start
    for process in started:
        process.stop()


def test_life_of_a_release(
    helm: Helm,
    control_plane: DevCluster,
    run_operator: Callable[[list[Object]], None],
    control_plane_namespace: str,
    tmp_path: Path,
) -> None:
    """Install an earlier version, upgrade, roll back, uninstall, and install again."""
    users = control_plane_namespace
    values = {"namespaces": [users]}
    flags = helm.values(values)
    earlier = copy_of_chart(tmp_path, "0.0.9")
    for kind in kube.KINDS:
        without_newest_field(earlier, kind)

    said = helm.good("install", RELEASE, str(earlier), *flags)
    assert not re.search(r"warn|would violate", said, re.IGNORECASE), said
    assert "auth" not in fields_of(control_plane, kube.MODELWORKER)
    run_operator(helm.template(values, chart=earlier))
    for kind in kube.KINDS:
        text = manifest(kind, {}, name=kind.short)
        control_plane.kubectl("apply", "-n", users, "-f", "-", stdin=text)
    before = eventually(
        lambda: workers_of(control_plane, users), until=lambda all_: len(all_) == 2, what="workers"
    )

    helm.good("upgrade", RELEASE, str(CHART), *flags)
    run_operator(helm.template(values))
    assert all("auth" in fields_of(control_plane, kind) for kind in kube.KINDS)
    change = json.dumps({"spec": {"auth": {"mode": "Token"}, "replicas": 1}})
    control_plane.kubectl("patch", "mw/mw", "-n", users, "--type=merge", "-p", change)
    wait_observed(control_plane, users)
    release = json.loads(helm.good("status", RELEASE, "-o=json"))
    assert (release["info"]["status"], release["version"]) == ("deployed", 2)
    assert workers_of(control_plane, users) == before

    helm.good("rollback", RELEASE, "1")
    run_operator(helm.template(values, chart=earlier))
    wait_observed(control_plane, users)
    assert "auth" not in fields_of(control_plane, kube.MODELWORKER)
    assert workers_of(control_plane, users) == before

    user = f"system:serviceaccount:{helm.namespace}:{RELEASE}-operator"
    assert audit.refused(control_plane.audit_log, user) == set()
    said = helm.good("uninstall", RELEASE)
    assert "kept" in said
    assert workers_of(control_plane, users) == before
    kinds = (
        "deployments,services,endpointslices,serviceaccounts,roles,rolebindings,"
        "poddisruptionbudgets,configmaps,secrets"
    )
    eventually(
        lambda: control_plane.kubectl("get", kinds, "-n", helm.namespace, "-o=name").split(),
        until=lambda left: left == ["serviceaccount/default", "configmap/kube-root-ca.crt"],
        what="an empty namespace",
    )
    everywhere = control_plane.kubectl("get", "clusterrole,clusterrolebinding", "-o=name")
    assert "modelworker" not in everywhere
    assert len(control_plane.kubectl("get", "mw,rwm", "-n", users, "-o=name").split()) == 2

    helm.good("install", RELEASE, str(CHART))  # it takes the CRDs that were kept
    assert "auth" in fields_of(control_plane, kube.MODELWORKER)
    helm.good("uninstall", RELEASE)


def wait_observed(control_plane: DevCluster, namespace: str) -> None:
    """Until the operator has brought every object as it is now to its children."""

    def seen() -> list[Object]:
        text = control_plane.kubectl("get", "mw,rwm", "-n", namespace, "-o=json")
        found: list[Object] = json.loads(text)["items"]
        return found

    eventually(
        seen,
        until=lambda all_: all(
            each.get("status", {}).get("observedGeneration") == each["metadata"]["generation"]
            for each in all_
        ),
        what="objects that were looked at",
    )


def test_crds_that_kubectl_installed(helm: Helm, control_plane: DevCluster) -> None:
    """They are taken over when asked for, and never silently."""
    theirs = copy_of_chart(helm.home, "0.0.9") / "files" / "crds"
    for kind in kube.KINDS:
        without_newest_field(theirs.parents[1], kind)
    control_plane.kubectl("apply", "--server-side", "-f", str(theirs))
    done = helm.run("install", RELEASE, str(CHART))
    assert done.returncode != 0
    assert "cannot be imported into the current release" in done.stderr
    helm.good("install", RELEASE, str(CHART), "--take-ownership", "--force-conflicts")
    crd = json.loads(control_plane.kubectl("get", "crd", "modelworkers.modelworker.dev", "-o=json"))
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert crd["metadata"]["annotations"]["meta.helm.sh/release-name"] == RELEASE
    assert all("auth" in fields_of(control_plane, kind) for kind in kube.KINDS)
    helm.good("upgrade", RELEASE, str(CHART))
    helm.good("uninstall", RELEASE)


def test_pods_are_made_under_restricted(helm: Helm, control_plane: DevCluster) -> None:
    """The controllers, too, get no refusal for a pod of the chart."""
    helm.good("install", RELEASE, str(CHART))

    def pods() -> list[Object]:
        text = control_plane.kubectl("get", "pods", "-n", helm.namespace, "-o=json")
        found: list[Object] = json.loads(text)["items"]
        return found

    assert len(eventually(pods, until=lambda all_: len(all_) == 2, what="two pods")) == 2
    test = one(documents(helm.good("get", "hooks", RELEASE)), "Pod")
    test["metadata"]["annotations"] = {}
    said = control_plane.kubectl(
        "apply", "--warnings-as-errors", "--dry-run=server", "-f", "-", stdin=json.dumps(test)
    )
    assert "created" in said
    helm.good("uninstall", RELEASE)
