"""The pinned versions come from the go.mod files alone."""

import pytest

from modelworker_devcluster import versions
from modelworker_devcluster.errors import DevClusterError
from modelworker_devcluster.versions import Binary, ToolSet

GO_MOD = """\
module example

tool (
\tgo.etcd.io/etcd/server/v3
\tk8s.io/kubernetes/cmd/kubectl
\tk8s.io/kubernetes/cmd/kubelet
)

require (
\tgo.etcd.io/etcd/api/v3 v3.0.1 // indirect
\tgo.etcd.io/etcd/server/v3 v3.7.3 // indirect
\tk8s.io/kubernetes v1.37.2 // indirect
)
"""
KUBECTL = Binary("kubectl", versions.KUBERNETES, f"{versions.KUBERNETES}/cmd/kubectl")
KUBELET = Binary("kubelet", versions.KUBERNETES, f"{versions.KUBERNETES}/cmd/kubelet")
ETCD = Binary("etcd", versions.ETCD, versions.ETCD)


@pytest.mark.parametrize(
    ("tools", "names", "label"),
    [
        pytest.param(
            ToolSet("kube", (KUBECTL, ETCD)),
            ("kubectl", "etcd"),
            "v1.37.2-etcd-v3.7.3",
            id="control-plane",
        ),
        pytest.param(
            ToolSet("kube", (KUBELET,), prefix="node-"), ("kubelet",), "node-v1.37.2", id="node"
        ),
    ],
)
def test_a_set_is_read(tools: ToolSet, names: tuple[str, ...], label: str) -> None:
    found = versions.parse(tools, GO_MOD)
    assert (found.names, found.label) == (names, label)
    assert found.folder == versions.MODULES / "kube"


def test_a_one_line_go_mod_is_read_too() -> None:
    found = versions.parse(
        ToolSet("kube", (KUBECTL,)),
        "tool k8s.io/kubernetes/cmd/kubectl\nrequire k8s.io/kubernetes v1.37.2\n",
    )
    assert found.versions == {"k8s.io/kubernetes": "v1.37.2"}


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        pytest.param("\tgo.etcd.io/etcd/server/v3\n", "no `tool` line for go.etcd.io", id="tool"),
        pytest.param("\tk8s.io/kubernetes v1.37.2 // indirect\n", "kubernetes", id="kubernetes"),
        pytest.param("server/v3 v3.7.3 // indirect\n", "does not require go.etcd.io", id="etcd"),
    ],
)
def test_an_incomplete_go_mod_is_refused(missing: str, message: str) -> None:
    assert missing in GO_MOD
    with pytest.raises(DevClusterError, match=message):
        versions.parse(ToolSet("kube", (KUBECTL, ETCD)), GO_MOD.replace(missing, "\n"))


@pytest.mark.parametrize(
    ("tools", "names"),
    [
        pytest.param(
            versions.CONTROL_PLANE,
            {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"},
            id="control-plane",
        ),
        pytest.param(versions.NODE, {"kubelet", "kube-proxy"}, id="node"),
        pytest.param(versions.NAME_SERVER, {"coredns"}, id="name-server"),
        pytest.param(versions.CHART_TOOL, {"helm"}, id="helm"),
    ],
)
def test_this_checkout_pins_each_set(tools: ToolSet, names: set[str]) -> None:
    found = versions.pinned(tools)
    assert set(found.names) == names
    assert all(version.startswith("v") for version in found.versions.values())


def test_each_set_is_kept_in_a_folder_of_its_own() -> None:
    sets = (versions.CONTROL_PLANE, versions.NODE, versions.NAME_SERVER, versions.CHART_TOOL)
    assert len({versions.pinned(tools).label for tools in sets}) == len(sets)
