"""Persistent volumes that are folders: made for claims, removed when released."""

import asyncio
import logging
import shutil
from pathlib import Path

from modelworker_devcluster.kubelet import names
from modelworker_devcluster.kubelet.api import Api, ApiError, Conflict, NotFound, Object
from modelworker_devcluster.kubelet.events import Events
from modelworker_devcluster.kubelet.watch import Changed, Deleted, Listed, follow

_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_RETRY_SECONDS = 1.0
_HONOURED = {"accessModes", "resources", "storageClassName", "volumeMode", "volumeName"}
_log = logging.getLogger(__name__)


def storage_class() -> Object:
    """The class of folders, the default one so that claims need not name it."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": names.STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": names.PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


def wants_volume(claim: Object) -> bool:
    """True for a claim that waits for a folder."""
    spec = claim["spec"]
    return (
        spec.get("storageClassName") == names.STORAGE_CLASS
        and not spec.get("volumeName")
        and claim["status"].get("phase") == "Pending"
        and "deletionTimestamp" not in claim["metadata"]
    )


def refusals(claim: Object) -> list[str]:
    """The fields of a claim that a folder cannot honour."""
    spec = claim["spec"]
    found = [f"spec.{key}" for key in spec if key not in _HONOURED]
    if spec.get("volumeMode", "Filesystem") != "Filesystem":
        found.append(f"spec.volumeMode={spec['volumeMode']}")
    return found


def volume_for(claim: Object, folder: Path) -> Object:
    """The PersistentVolume of a claim."""
    metadata = claim["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{metadata['uid']}",
            "annotations": {_PROVISIONED_BY: names.PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": names.STORAGE_CLASS,
            "hostPath": {"path": str(folder), "type": "DirectoryOrCreate"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }


class Provisioner:
    """Makes a folder and a PersistentVolume for each claim, and removes both."""

    def __init__(self, api: Api, events: Events, directory: Path) -> None:
        self._api = api
        self._events = events
        self._directory = directory / "volumes"
        self._volumes: dict[str, Object] = {}

    async def run(self) -> None:
        """Serve claims for ever."""
        while True:
            try:
                await self._api.create(_CLASSES, storage_class())
            except Conflict:
                break
            except ApiError as error:
                _log.info("no storage class yet: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                break
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_volumes())
            group.create_task(self._follow_claims())

    async def _follow_claims(self) -> None:
        waiting: dict[str, asyncio.Task[None]] = {}
        async for event in follow(self._api, _CLAIMS):
            for claim in event.items if isinstance(event, Listed) else (event.item,):
                uid = claim["metadata"]["uid"]
                task = waiting.get(uid)
                if isinstance(event, Deleted):
                    if task is not None:
                        task.cancel()
                elif wants_volume(claim) and (task is None or task.done()):
                    waiting[uid] = asyncio.create_task(self._provision(claim))

    async def _provision(self, claim: Object) -> None:
        metadata = claim["metadata"]
        if unsupported := refusals(claim):
            message = f"not supported by devcluster: {', '.join(unsupported)}"
            # The items of a list do not say their kind.
            subject = {"kind": "PersistentVolumeClaim", **claim}
            await self._events.warn(subject, "ProvisioningFailed", message)
            return
        folder = self._directory / metadata["namespace"] / metadata["name"]
        volume = volume_for(claim, folder)
        while True:
            # The folder of an earlier claim of this name must be gone first.
            others = {one["spec"].get("hostPath", {}).get("path") for one in self._others(volume)}
            try:
                if str(folder) not in others:
                    folder.mkdir(parents=True, exist_ok=True)
                    await self._api.create(_VOLUMES, volume)
                    return
            except Conflict:
                return
            except (ApiError, OSError) as error:
                _log.warning("claim %s/%s: %s", metadata["namespace"], metadata["name"], error)
            await asyncio.sleep(_RETRY_SECONDS)

    def _others(self, volume: Object) -> list[Object]:
        own = volume["metadata"]["name"]
        return [one for name, one in self._volumes.items() if name != own]

    async def _follow_volumes(self) -> None:
        async for event in follow(self._api, _VOLUMES):
            match event:
                case Listed(items):
                    self._volumes = {item["metadata"]["name"]: item for item in items}
                    changed = items
                case Changed(item):
                    self._volumes[item["metadata"]["name"]] = item
                    changed = (item,)
                case Deleted(item):
                    await self._remove(item)
                    self._volumes.pop(item["metadata"]["name"], None)
                    changed = ()
            for volume in changed:
                if volume["status"].get("phase") == "Released":
                    await self._remove(volume)

    async def _remove(self, volume: Object) -> None:
        """Remove the folder of a volume that was ours and is not to be kept, then the volume."""
        metadata, spec = volume["metadata"], volume["spec"]
        ours = metadata.get("annotations", {}).get(_PROVISIONED_BY) == names.PROVISIONER
        if ours and spec.get("persistentVolumeReclaimPolicy") == "Delete":
            folder = Path(spec["hostPath"]["path"])
            if folder.is_relative_to(self._directory):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            while True:
                try:
                    await self._api.delete(f"{_VOLUMES}/{metadata['name']}", uid=metadata["uid"])
                except (NotFound, Conflict):
                    return
                except ApiError as error:
                    _log.warning("volume %s is not deleted: %s", metadata["name"], error)
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    return
