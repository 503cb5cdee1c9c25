"""The pinned versions come from go.mod alone."""

import pytest

from modelworker_devcluster import versions
from modelworker_devcluster.errors import DevClusterError

GO_MOD = """\
module example

tool (
\tgo.etcd.io/etcd/server/v3
\tk8s.io/kubernetes/cmd/kube-apiserver
\tk8s.io/kubernetes/cmd/kubectl
)

require (
\tgo.etcd.io/etcd/api/v3 v3.0.1 // indirect
\tgo.etcd.io/etcd/server/v3 v3.7.3 // indirect
\tk8s.io/kubernetes v1.37.2 // indirect
)
"""


def test_versions_and_packages_are_read() -> None:
    found = versions.parse(GO_MOD)
    assert found == versions.Versions(
        kubernetes="v1.37.2",
        etcd="v3.7.3",
        packages={
            "etcd": "go.etcd.io/etcd/server/v3",
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kubectl": "k8s.io/kubernetes/cmd/kubectl",
        },
    )
    assert found.label == "v1.37.2-etcd-v3.7.3"


def test_a_one_line_go_mod_is_read_too() -> None:
    found = versions.parse(
        "tool go.etcd.io/etcd/server/v3\ntool k8s.io/kubernetes/cmd/kubectl\n"
        "require go.etcd.io/etcd/server/v3 v3.7.3\nrequire k8s.io/kubernetes v1.37.2\n"
    )
    assert (found.names, found.kubernetes) == (("etcd", "kubectl"), "v1.37.2")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        pytest.param("\tgo.etcd.io/etcd/server/v3\n", "no `tool` lines", id="etcd-tool"),
        pytest.param("\tk8s.io/kubernetes v1.37.2 // indirect\n", "kubernetes", id="kubernetes"),
        pytest.param("server/v3 v3.7.3 // indirect\n", "does not require go.etcd.io", id="etcd"),
    ],
)
def test_an_incomplete_go_mod_is_refused(missing: str, message: str) -> None:
    assert missing in GO_MOD
    with pytest.raises(DevClusterError, match=message):
        versions.parse(GO_MOD.replace(missing, "\n"))


def test_this_checkout_pins_the_five_binaries() -> None:
    assert set(versions.pinned().names) == {
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubectl",
    }
