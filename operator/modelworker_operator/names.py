"""Names, labels and ownership of children: deterministic, within Kubernetes' 63 characters."""

from collections.abc import Mapping
from typing import Any

from modelworker_api import kube
from modelworker_operator.spec import Identity


def child_name(worker: Identity) -> str:
    """Name of the Deployment and the Service.

    The prefix keeps the kinds apart and makes it a DNS label that starts with a letter,
    as a Service needs; the CRD's limit on names keeps it under 63 characters.
    """
    return f"{worker.kind.short}-{worker.name}"


def selector_labels(worker: Identity) -> dict[str, str]:
    """Labels that select exactly this object's pods; immutable in a Deployment."""
    return {kube.LABEL_KIND: worker.kind.kind, kube.LABEL_NAME: worker.name}


def child_labels(worker: Identity) -> dict[str, str]:
    """Labels of every child and of its pods."""
    return {kube.LABEL_MANAGED_BY: kube.MANAGED_BY, **selector_labels(worker)}


def selector_text(worker: Identity) -> str:
    """The selector as `kubectl -l` and the scale subresource want it."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector_labels(worker).items()))


def service_url(worker: Identity) -> str:
    """URL of the Service inside the cluster."""
    return f"http://{child_name(worker)}.{worker.namespace}.svc:{kube.WORKER_PORT}"


def leader_slice_name(service: str) -> str:
    """Name of the EndpointSlice that leads from a Service to the leader."""
    return f"{service}-leader"


def controller_of(live: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner reference of the object that controls a child; None if it has none."""
    owners = live["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)
