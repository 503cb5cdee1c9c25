"""The kinds of objects that the operator watches, and their paths in the API."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelworker_api import kube


@dataclass(frozen=True, slots=True)
class Resource:
    """A namespaced kind of object in the API."""

    kind: str
    group: str
    version: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None, sub: str = "") -> str:
        """Path of the collection, of one object, or of one object's subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root, *(["namespaces", namespace] if namespace else []), self.plural]
        return "/".join([*parts, *([name] if name else []), *([sub] if sub else [])])


OWNERS: Final[Mapping[kube.Kind, Resource]] = {
    kind: Resource(kind.kind, kube.GROUP, kube.VERSION, kind.plural) for kind in kube.KINDS
}
"""The custom resources."""
MODELWORKERS: Final = OWNERS[kube.MODELWORKER]
REWARDMODELS: Final = OWNERS[kube.REWARDMODEL]
DEPLOYMENTS: Final = Resource("Deployment", "apps", "v1", "deployments")
SERVICES: Final = Resource("Service", "", "v1", "services")
PODS: Final = Resource("Pod", "", "v1", "pods")
ENDPOINT_SLICES: Final = Resource("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices")

CHILDREN: Final = (DEPLOYMENTS, SERVICES, PODS)
"""Watched by label, because other people's objects are none of our business."""
WATCHED: Final = (*OWNERS.values(), *CHILDREN)

CHILD_SELECTOR: Final = f"{kube.LABEL_MANAGED_BY}={kube.MANAGED_BY}"


def resource_of(manifest: Mapping[str, Any]) -> Resource:
    """The resource of a manifest, by its kind.

    Raises:
        KeyError: the operator does not write objects of this kind.
    """
    return {resource.kind: resource for resource in (*WATCHED, ENDPOINT_SLICES)}[manifest["kind"]]
