"""A real Kubernetes on one machine, without root and without containers."""

from modelworker_devcluster.cluster import DevCluster
from modelworker_devcluster.errors import (
    BinariesNotFound,
    DevClusterError,
    KubectlFailed,
    StartFailed,
)

__all__ = ["BinariesNotFound", "DevCluster", "DevClusterError", "KubectlFailed", "StartFailed"]
