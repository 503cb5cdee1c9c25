"""Where the operator is: found by its Lease, whatever the chart's release is called."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from modelworker.cli._cluster import Cluster, core_path
from modelworker.cli._facts import time_of
from modelworker.cli._failures import Failure, Refused
from modelworker_api import kube

_LEASES: Final = "/apis/coordination.k8s.io/v1/leases"
_OF_A_REVISION: Final = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class Leader:
    """Who holds the Lease; `pod` is empty where nobody does."""

    namespace: str
    pod: str
    renewed: datetime | None
    seconds: int


def leaders(cluster: Cluster) -> list[Leader]:
    """Every Lease of this operator, of all namespaces.

    Raises:
        Failure: if they cannot be read.
    """
    found = cluster.get(_LEASES, fieldSelector=f"metadata.name={kube.LEASE_NAME}")["items"]
    return [leader_of(lease) for lease in found]


def leader_of(lease: Mapping[str, Any]) -> Leader:
    """The holder that a Lease names; its identity begins with the pod's name."""
    spec = lease.get("spec") or {}
    return Leader(
        namespace=lease["metadata"]["namespace"],
        pod=(spec.get("holderIdentity") or "").partition("_")[0],
        renewed=time_of(spec.get("renewTime")),
        seconds=spec.get("leaseDurationSeconds") or 0,
    )


def operator_pods(cluster: Cluster) -> list[Mapping[str, Any]]:
    """The pods of the operator: that of the leader, and those that stand by.

    Raises:
        Failure: if there is no leader, or it cannot be read.
    """
    found: list[Mapping[str, Any]] = []
    leading = [leader for leader in leaders(cluster) if leader.pod]
    for leader in leading:
        try:
            pod = cluster.get(core_path("pods", leader.namespace, leader.pod))
        except Refused as error:
            if not error.absent:
                raise
        else:
            labels = ",".join(
                f"{key}={value}"
                for key, value in sorted((pod["metadata"].get("labels") or {}).items())
                if key != _OF_A_REVISION
            )
            path = core_path("pods", leader.namespace)
            found += cluster.get(path, labelSelector=labels)["items"] if labels else [pod]
    if not found and leading:
        who = ", ".join(f"{leader.pod} in {leader.namespace}" for leader in leading)
        raise Failure(f"the operator that leads is no pod of this cluster: {who}")
    if not found:
        raise Failure("no operator leads in this cluster; `kubectl modelworker doctor` tells more")
    return found
