"""What the controller answers, apart from HTTP."""

import logging
from typing import Final

from modelworker_api.fastchat import HeartbeatRequest, RegisterRequest, WorkerStatus
from modelworker_operator.controller.dispatch import Dispatcher
from modelworker_operator.controller.external import Externals
from modelworker_operator.controller.workers import ClusterModels, Directory, directory_of

_MOST_TOLD: Final = 100

_log = logging.getLogger(__name__)


class Controller:
    """Knows who serves what, and who is to get the next request.

    Args:
        cluster: The models of the cluster.
        externals: The workers that registered themselves.
    """

    def __init__(self, cluster: ClusterModels, externals: Externals) -> None:
        self._cluster = cluster
        self._externals = externals
        self._dispatcher = Dispatcher()
        self._told: set[str] = set()

    def models(self, *, multimodal: bool | None = None) -> list[str]:
        """The names that have a worker, sorted; see `Directory.names`."""
        return self._directory().names(multimodal=multimodal)

    def address(self, model: str) -> str:
        """Base URL of the worker with the shortest queue; empty where none serves the model."""
        known = self._directory()
        if model in known.ambiguous and model not in self._told:
            self._tell(model)
        chosen = self._dispatcher.choose(known.workers(model))
        return chosen.address if chosen else ""

    def status(self) -> WorkerStatus:
        """The whole as if it were one worker."""
        known = self._directory()
        workers = known.all_workers()
        return WorkerStatus(
            model_names=known.names(),
            speed=sum(worker.speed for worker in workers),
            queue_length=sum(map(self._dispatcher.queue, workers)),
        )

    async def register(self, request: RegisterRequest) -> None:
        """See `Externals.register`."""
        await self._externals.register(request)

    def heartbeat(self, request: HeartbeatRequest) -> bool:
        """See `Externals.heartbeat`."""
        return self._externals.heartbeat(request)

    async def refresh(self) -> None:
        """Look at the external workers again; those of the cluster are always known."""
        await self._externals.refresh()

    def _directory(self) -> Directory:
        return directory_of(self._cluster.now(), self._externals.now())

    def _tell(self, model: str) -> None:
        if len(self._told) < _MOST_TOLD:
            self._told.add(model)
            _log.warning(
                "model %.200r is the name of objects in several namespaces or of both kinds, so "
                "it leads nowhere; ask for NAMESPACE/NAME or for another spec.model.name, or limit "
                "--controller-namespaces",
                model,
            )
