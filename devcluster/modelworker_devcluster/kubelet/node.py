"""The Node object and its Lease."""

import asyncio
import logging
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from modelworker_devcluster.kubelet import names
from modelworker_devcluster.kubelet.api import Api, ApiError, Conflict, NotFound, Object
from modelworker_devcluster.kubelet.status import timestamp

_LEASE_SECONDS = 40
_RENEW_SECONDS = 10.0
_RETRY_SECONDS = 0.5
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_NODES = "/api/v1/nodes"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_OUR_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_log = logging.getLogger(__name__)


def capacity(extra: Mapping[str, str]) -> dict[str, str]:
    """What this machine has, as Kubernetes quantities; `extra` adds to it or overrides it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{memory // 1024}Ki",
        "ephemeral-storage": f"{shutil.disk_usage('/').total // 1024}Ki",
        "pods": "110",
    }
    return {**found, **extra}


def node_object(name: str) -> Object:
    """The Node as it is created, tainted until it is ready as every new node is."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": architecture,
            },
        },
    }


def node_status(amounts: Mapping[str, str], version: str, now: datetime) -> Object:
    """The status of a Node that is ready."""
    healthy = {
        "MemoryPressure": "KubeletHasSufficientMemory",
        "DiskPressure": "KubeletHasNoDiskPressure",
        "PIDPressure": "KubeletHasSufficientPID",
    }
    conditions = [("Ready", "True", "KubeletReady")]
    conditions += [(kind, "False", reason) for kind, reason in healthy.items()]
    system = platform.uname()
    return {
        "capacity": dict(amounts),
        "allocatable": dict(amounts),
        "addresses": [
            {"type": "InternalIP", "address": names.NODE_IP},
            {"type": "Hostname", "address": "localhost"},
        ],
        "conditions": [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": "pods run as local processes",
                "lastHeartbeatTime": timestamp(now),
                "lastTransitionTime": timestamp(now),
            }
            for kind, status, reason in conditions
        ],
        "nodeInfo": {
            "architecture": _ARCHITECTURES.get(system.machine, system.machine),
            "operatingSystem": "linux",
            "kernelVersion": system.release,
            "osImage": "devcluster",
            "containerRuntimeVersion": "process://1",
            "kubeletVersion": version,
            "kubeProxyVersion": "",
            "machineID": "",
            "systemUUID": "",
            "bootID": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        },
    }


class Node:
    """Registers the node and keeps it alive."""

    def __init__(
        self, api: Api, name: str, amounts: Mapping[str, str], clock: Callable[[], datetime]
    ) -> None:
        self._api = api
        self._name = name
        self._amounts = amounts
        self._clock = clock

    async def run(self) -> None:
        """Register the node so that pods are scheduled to it at once, then keep it alive."""
        while True:
            try:
                await self._register()
                while True:
                    await self._renew()
                    await asyncio.sleep(_RENEW_SECONDS)
            except NotFound:
                _log.warning("node %s was deleted; registering it again", self._name)
            except ApiError as error:
                _log.info("node %s: %s", self._name, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _register(self) -> None:
        path = f"{_NODES}/{self._name}"
        try:
            await self._api.create(_NODES, node_object(self._name))
        except Conflict:
            await self._api.patch(path, node_object(self._name))
        version = (await self._api.get("/version"))["gitVersion"]
        status = node_status(self._amounts, version, self._clock())
        await self._api.patch(f"{path}/status", {"status": status})
        # Pods need not wait until a controller has noticed that the node is ready.
        node = await self._api.get(path)
        taints = [one for one in node["spec"].get("taints", []) if one["key"] not in _OUR_TAINTS]
        await self._api.patch(path, {"spec": {"taints": taints}})

    async def _renew(self) -> None:
        node = await self._api.get(f"{_NODES}/{self._name}")
        now = self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease: Object = {
            "metadata": {
                "name": self._name,
                "ownerReferences": [
                    {
                        "apiVersion": "v1",
                        "kind": "Node",
                        "name": self._name,
                        "uid": node["metadata"]["uid"],
                    }
                ],
            },
            "spec": {
                "holderIdentity": self._name,
                "leaseDurationSeconds": _LEASE_SECONDS,
                "renewTime": now,
            },
        }
        try:
            await self._api.patch(f"{_LEASES}/{self._name}", lease)
        except NotFound:
            await self._api.create(_LEASES, lease)
