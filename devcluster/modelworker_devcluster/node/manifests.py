"""The objects that a node needs, as values."""

import json
from pathlib import Path
from typing import Any

from modelworker_devcluster.node.places import DNS_ADDRESS, NODE_ADDRESS

_DNS = {"name": "kube-dns", "namespace": "kube-system"}
_DNS_PORTS = [
    {"name": "dns", "port": 53, "protocol": "UDP"},
    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
]
_CAPACITY = "100Gi"
"""Of a volume that is a folder: nothing enforces it."""


def name_service() -> dict[str, Any]:
    """What CoreDNS needs as a program outside of pods: rights, a Service, its address."""
    rights = [
        {
            "apiGroups": [""],
            "resources": ["namespaces", "pods", "services"],
            "verbs": ["list", "watch"],
        },
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["list", "watch"],
        },
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "coredns"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "coredns"}
    rbac = "rbac.authorization.k8s.io/v1"
    items: list[dict[str, Any]] = [
        {
            "apiVersion": rbac,
            "kind": "ClusterRole",
            "metadata": {"name": "coredns"},
            "rules": rights,
        },
        {
            "apiVersion": rbac,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "coredns"},
            "roleRef": role,
            "subjects": [user],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**_DNS, "labels": {"k8s-app": "kube-dns"}},
            "spec": {"clusterIP": DNS_ADDRESS, "ports": _DNS_PORTS},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**_DNS, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
            "ports": _DNS_PORTS,
        },
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def volume(name: str, namespace: str, folder: Path) -> dict[str, Any]:
    """A claim with a volume of its own, which is a folder of this machine.

    A pod may mount it under the `restricted` profile, which refuses a plain hostPath.
    """
    modes = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]
    whole = f"{namespace}-{name}"
    persistent = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": whole},
        "spec": {
            "capacity": {"storage": _CAPACITY},
            "accessModes": modes,
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": namespace, "name": name},
            "hostPath": {"path": str(folder), "type": "Directory"},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": modes,
            "storageClassName": "",
            "volumeName": whole,
            "resources": {"requests": {"storage": _CAPACITY}},
        },
    }
    return {"apiVersion": "v1", "kind": "List", "items": [persistent, claim]}


def text(manifest: dict[str, Any]) -> str:
    """A manifest as kubectl reads it."""
    return json.dumps(manifest)
