"""The kubelet as a whole: what runs side by side, and how it ends."""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from modelworker_devcluster.kubelet import names
from modelworker_devcluster.kubelet.addresses import Addresses
from modelworker_devcluster.kubelet.api import Api, Object
from modelworker_devcluster.kubelet.context import NodeContext, Settings
from modelworker_devcluster.kubelet.events import Events
from modelworker_devcluster.kubelet.gpus import Gpus
from modelworker_devcluster.kubelet.node import Node
from modelworker_devcluster.kubelet.pod_worker import PodWorker, pod_folder
from modelworker_devcluster.kubelet.probes import Prober
from modelworker_devcluster.kubelet.provisioner import Provisioner
from modelworker_devcluster.kubelet.watch import Changed, Deleted, Listed, follow

_HALT_SECONDS = 3.0
_TROUBLE_SECONDS = 5.0
_log = logging.getLogger(__name__)


class Kubelet:
    """Runs the pods of one node."""

    def __init__(self, api: Api, settings: Settings) -> None:
        """Put the parts together; nothing happens before `run`.

        Raises:
            NoFreeAddress: every block of loopback addresses is in use.
        """
        self._context = NodeContext(
            settings=settings,
            api=api,
            events=Events(api, settings.node_name, now),
            prober=Prober(),
            gpus=Gpus(int(settings.capacity.get(names.GPU_RESOURCE, "0"))),
            addresses=Addresses(),
            clock=now,
        )
        self._workers: dict[str, tuple[PodWorker, asyncio.Task[None]]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, then end every process of every pod."""
        context, settings = self._context, self._context.settings
        node = Node(context.api, settings.node_name, settings.capacity, context.clock)
        provisioner = Provisioner(context.api, context.events, settings.directory)
        tasks = [
            asyncio.create_task(_keep_running(work))
            for work in (node.run, provisioner.run, self._follow_pods)
        ]
        try:
            await stop.wait()
        finally:
            for task in tasks:
                task.cancel()
            await self._halt()
            context.addresses.close()
            await context.prober.close()

    async def _follow_pods(self) -> None:
        selector = f"spec.nodeName={self._context.settings.node_name}"
        async for event in follow(self._context.api, "/api/v1/pods", fieldSelector=selector):
            match event:
                case Listed(items):
                    await asyncio.to_thread(self._clean_up, items)
                    for pod in items:
                        self._changed(pod)
                    for uid in self._workers.keys() - {pod["metadata"]["uid"] for pod in items}:
                        self._deleted(uid)
                case Changed(item):
                    self._changed(item)
                case Deleted(item):
                    self._deleted(item["metadata"]["uid"])

    def _changed(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        try:
            if uid in self._workers:
                self._workers[uid][0].update(pod)
            else:
                worker = PodWorker(self._context, pod)
                self._workers[uid] = (worker, asyncio.create_task(worker.run()))
        except Exception:
            _log.exception("pod %s/%s", pod["metadata"]["namespace"], pod["metadata"]["name"])

    def _deleted(self, uid: str) -> None:
        if uid in self._workers:
            self._workers.pop(uid)[0].removed()

    async def _halt(self) -> None:
        workers = list(self._workers.values())
        await asyncio.gather(*(worker.halt(_HALT_SECONDS) for worker, _ in workers))
        for _, task in workers:
            task.cancel()
        await asyncio.gather(*(task for _, task in workers), return_exceptions=True)

    def _clean_up(self, pods: tuple[Object, ...]) -> None:
        """Remove what pods left that were deleted while nobody watched."""
        directory = self._context.settings.directory
        known = {pod_folder(directory, pod) for pod in pods}
        known |= {worker.folder for worker, _ in self._workers.values()}
        for folder in (directory / "pods").glob("*"):
            if folder not in known:
                shutil.rmtree(folder, ignore_errors=True)
        for link in (directory / "tmp").glob("*"):
            if not link.exists():
                link.unlink()


async def _keep_running(work: Callable[[], Awaitable[None]]) -> None:
    """Run what never ends by itself; after an unforeseen error, from the beginning."""
    while True:
        try:
            await work()
        except Exception:
            _log.exception("%s", work.__qualname__)
        await asyncio.sleep(_TROUBLE_SECONDS)


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)
