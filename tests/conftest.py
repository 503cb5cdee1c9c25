"""Fixtures that more than one folder of tests uses."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from modelworker_devcluster import DevCluster
from tests.support import eventually


@pytest.fixture(scope="session")
def cluster() -> Iterator[DevCluster]:
    """A control plane and a node with two GPUs, shared by all tests of the session."""
    with DevCluster(kubelet=True, node={"nvidia.com/gpu": "2"}) as running:
        yield running


@pytest.fixture(scope="session")
def control_plane() -> Iterator[DevCluster]:
    """A control plane without a node, shared by all tests of the session: pods stay Pending."""
    with DevCluster(kubelet=False) as running:
        yield running


@pytest.fixture
def namespace(cluster: DevCluster) -> Iterator[str]:
    """A namespace of `cluster` for one test; its deletion is not waited for."""
    yield from _namespace(cluster)


@pytest.fixture
def control_plane_namespace(control_plane: DevCluster) -> Iterator[str]:
    """A namespace of `control_plane` for one test; its deletion is not waited for."""
    yield from _namespace(control_plane)


def _namespace(cluster: DevCluster) -> Iterator[str]:
    name = f"test-{uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    # Pods need both: the account they run as and the volume with its authority.
    eventually(
        lambda: cluster.kubectl("get", "sa/default", "cm/kube-root-ca.crt", "-n", name, "-o=name"),
        what=f"service account in {name}",
    )
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
