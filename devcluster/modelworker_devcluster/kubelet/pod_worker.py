"""One pod, from its binding to the node to its deletion."""

import asyncio
import contextlib
import logging
import shutil
from dataclasses import replace
from pathlib import Path

from modelworker_devcluster.kubelet import adopt, names
from modelworker_devcluster.kubelet.addresses import NoFreeAddress
from modelworker_devcluster.kubelet.api import ApiError, Conflict, NotFound, Object
from modelworker_devcluster.kubelet.container import Container
from modelworker_devcluster.kubelet.context import NodeContext, PodContext
from modelworker_devcluster.kubelet.environment import Facts
from modelworker_devcluster.kubelet.gpus import NoFreeGpu
from modelworker_devcluster.kubelet.status import (
    PodRecord,
    Refusal,
    Waiting,
    pod_status,
)
from modelworker_devcluster.kubelet.supported import not_enforced, refusals
from modelworker_devcluster.kubelet.volume_data import MountError
from modelworker_devcluster.kubelet.volumes import Volumes

_TEMPORARY_NAME = 13
_SETUP_RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_REFUSAL_SECONDS = 10.0
_STATUS_RETRY_SECONDS = 1.0
_COALESCE_SECONDS = 0.02
_FORCED_GRACE = 2.0
_log = logging.getLogger(__name__)


class PodWorker:
    """Runs a pod and keeps its status true.

    Attributes:
        name: namespace and name, for logs.
        folder: where everything of the pod is.
    """

    def __init__(self, node: NodeContext, pod: Object) -> None:
        """Take over a pod as it is stored; `run` starts it."""
        metadata = pod["metadata"]
        self.name = f"{metadata['namespace']}/{metadata['name']}"
        self._node = node
        self._url = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._uid = metadata["uid"]
        self.folder = pod_folder(node.settings.directory, pod)
        facts = Facts(pod, "", node.settings.node_name, node.settings.capacity)
        volumes = Volumes(node.api, facts, self.folder / "volumes", node.clock)
        temporary = temporary_folder(node.settings.directory, pod)
        self._context = PodContext(node, volumes, self.folder, temporary)
        now = node.clock()
        self._start_time = adopt.start_time(pod, now)
        self._init, self._main = (
            tuple(
                Container(self._context, record, init=init, changed=self._wake)
                for record in adopt.records(pod, now, init=init)
            )
            for init in (True, False)
        )
        self._refusal = adopt.refusal(pod)
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()  # nothing more is to be started
        self._deleting = asyncio.Event()
        self._ending = False
        self._gone = False
        self._published: Object = {}
        self._publisher: asyncio.Task[None] | None = None
        self._life: asyncio.Task[None] | None = None
        self.update(pod)

    def update(self, pod: Object) -> None:
        """Take note of the pod object as it is now."""
        before = self._context.pod
        self._context.volumes.facts = replace(self._context.facts, pod=pod)
        if "deletionTimestamp" in pod["metadata"]:
            self._end(float(pod["metadata"].get("deletionGracePeriodSeconds", 0)))
        for container in (*self._init, *self._main):
            name = container.record.name
            if _image(before, name) != _image(pod, name):
                container.restart()
        self._wake()

    def removed(self) -> None:
        """Take note that the pod object is gone: end what still runs quickly."""
        self._gone = True
        self._end(_FORCED_GRACE)

    async def run(self) -> None:
        """Run the pod until it is deleted; whatever goes wrong is logged."""
        self._publisher = asyncio.create_task(self._publish_changes())
        self._life = asyncio.create_task(self._live())
        try:
            await asyncio.wait({self._life})
            if error := self._life.exception():
                _log.error("pod %s", self.name, exc_info=error)
            self._wake()
            await self._deleting.wait()
        finally:
            self._life.cancel()
            self._publisher.cancel()
            self._release()
        await self._bury()

    async def halt(self, grace: float) -> None:
        """End the pod's processes within about `grace` seconds, and leave its object as it is."""
        if self._publisher is not None and self._life is not None:
            self._publisher.cancel()
            self._stopping.set()
            for container in (*self._init, *self._main):
                container.stop(grace, hooks=False)
            await asyncio.wait({self._life}, timeout=grace)
            self._life.cancel()
            await asyncio.wait({self._life})

    def _end(self, grace: float) -> None:
        for container in (*self._init, *self._main):
            container.stop(grace)
        self._stopping.set()
        self._deleting.set()

    def _wake(self) -> None:
        self._changed.set()

    async def _live(self) -> None:
        pod = self._context.pod
        if adopt.is_final(pod):
            return
        if refusal := _refusal(pod):
            await self._refuse(refusal)
            return
        try:
            self._context.gpus = self._node.gpus.allocate(pod)
        except NoFreeGpu as error:
            await self._refuse(Refusal("UnexpectedAdmissionError", str(error)))
            return
        if not await self._set_up():
            return
        fresh = asyncio.create_task(self._context.volumes.keep_fresh())
        try:
            await self._run_containers()
        finally:
            fresh.cancel()
            self._node.gpus.release(self._uid)

    async def _run_containers(self) -> None:
        for container in self._init:
            await container.run()
            if not container.record.succeeded:
                return
        for container in self._main:
            if isinstance(container.record.state, Waiting) and container.record.last is None:
                container.record = replace(container.record, state=Waiting("ContainerCreating"))
        async with asyncio.TaskGroup() as group:
            for container in self._main:
                group.create_task(container.run())

    async def _refuse(self, refusal: Refusal) -> None:
        pod = self._context.pod
        self._wait_with(refusal.message, reason=refusal.reason)
        await self._node.events.warn(pod, refusal.reason, refusal.message)
        if "ownerReferences" in pod["metadata"]:
            # Its owner replaces a failed pod at once, and that one fails again.
            await self._pause(_REFUSAL_SECONDS)
        self._refusal = refusal

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _set_up(self) -> bool:
        """Give the pod its address, folders and volumes; False when it is deleted before."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                if not self._context.facts.pod_ip:
                    address = self._node.addresses.take()
                    facts = replace(self._context.facts, pod_ip=address)
                    self._context.volumes.facts = facts
                for name in ("home", "tmp"):
                    (self.folder / name).mkdir(parents=True, exist_ok=True)
                link_temporary(self._context.temporary, self.folder / "tmp")
                await self._context.volumes.set_up()
            except (MountError, NoFreeAddress, OSError) as error:
                self._wait_with(str(error))
                reason = (
                    "FailedMount" if isinstance(error, MountError) else "FailedCreatePodSandBox"
                )
                await self._node.events.warn(self._context.pod, reason, str(error))
                seconds = _SETUP_RETRY_SECONDS[min(attempt, len(_SETUP_RETRY_SECONDS) - 1)]
                attempt += 1
                await self._pause(seconds)
            else:
                self._wake()
                return True
        return False

    def _wait_with(self, message: str, *, reason: str | None = None) -> None:
        for container in (*self._init, *self._main):
            state = container.record.state
            if isinstance(state, Waiting):
                waiting = Waiting(reason or state.reason, message)
                container.record = replace(container.record, state=waiting)
        self._wake()

    def _status(self) -> Object:
        pod = self._context.pod
        record = PodRecord(
            start_time=self._start_time,
            pod_ip=self._context.facts.pod_ip,
            restart_policy=pod["spec"].get("restartPolicy", "Always"),
            init_containers=tuple(one.record for one in self._init),
            containers=tuple(one.record for one in self._main),
            not_enforced=not_enforced(pod) if self._context.facts.pod_ip else (),
            refusal=self._refusal,
            ending=self._ending,
            ephemeral=tuple(
                (one["name"], one["image"]) for one in pod["spec"].get("ephemeralContainers", [])
            ),
        )
        stored = [
            *pod["status"].get("conditions", []),
            *self._published.get("conditions", []),
        ]
        generation = pod["metadata"].get("generation", 0)
        return pod_status(record, generation=generation, before=stored, now=self._node.clock())

    async def _publish_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._publish()
            except NotFound:
                return
            except ApiError as error:
                _log.warning("status of pod %s: %s; trying again", self.name, error)
                self._wake()
                await asyncio.sleep(_STATUS_RETRY_SECONDS)
            except Exception:
                _log.exception("status of pod %s", self.name)
            await asyncio.sleep(_COALESCE_SECONDS)

    async def _publish(self) -> None:
        if adopt.is_final(self._context.pod):
            return
        status = self._status()
        if status != self._published:
            patch = {"metadata": {"uid": self._uid}, "status": dict(status)}
            if "podIPs" in status:
                # They are merged by address otherwise, and the first one must be podIP.
                patch["status"]["podIPs"] = [{"$patch": "replace"}, *status["podIPs"]]
            await self._node.api.patch(f"{self._url}/status", patch)
            self._published = status

    def _release(self) -> None:
        self._node.gpus.release(self._uid)
        if self._context.facts.pod_ip:
            self._node.addresses.release(self._context.facts.pod_ip)

    async def _bury(self) -> None:
        """Say how the pod ended, delete its object, then its folder."""
        self._ending = True
        while not self._gone:
            try:
                await self._publish()
                await self._node.api.delete(self._url, uid=self._uid, grace_seconds=0)
                break
            except (NotFound, Conflict):
                break
            except ApiError as error:
                _log.warning("deletion of pod %s: %s; trying again", self.name, error)
                await asyncio.sleep(_STATUS_RETRY_SECONDS)
        self._node.events.forget(self._context.pod)
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
        self._context.temporary.unlink(missing_ok=True)


def temporary_folder(directory: Path, pod: Object) -> Path:
    """What a pod's programs take for /tmp: a link, as sockets there may have no longer path."""
    return directory / "tmp" / str(pod["metadata"]["uid"])[:_TEMPORARY_NAME]


def link_temporary(link: Path, folder: Path) -> None:
    """Let the link lead to the folder."""
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(folder)


def pod_folder(directory: Path, pod: Object) -> Path:
    """Where everything of a pod is kept while it exists."""
    metadata = pod["metadata"]
    name = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
    return directory / "pods" / name


def _refusal(pod: Object) -> Refusal | None:
    fields = refusals(pod)
    message = f"not supported by devcluster: {', '.join(fields)}"
    return Refusal(names.REASON_NOT_SUPPORTED, message) if fields else None


def _image(pod: Object, name: str) -> str | None:
    spec = pod["spec"]
    everyone = [*spec["containers"], *spec.get("initContainers", [])]
    return next((one["image"] for one in everyone if one["name"] == name), None)
