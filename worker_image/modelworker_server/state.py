"""What the routes work with, put together by the composition root."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from modelworker_api import wire
from modelworker_server.auth import Auth
from modelworker_server.errors import NotReady, Unsupported
from modelworker_server.lifecycle import Lifecycle
from modelworker_server.limits import Limiter
from modelworker_server.metrics import Metrics
from modelworker_server.reading import Reader
from modelworker_server.workers.base import BaseModelWorker, Load


@dataclass(slots=True)
class ServerState:
    """One worker behind its HTTP face; the server listens before there is a worker."""

    lifecycle: Lifecycle
    limiter: Limiter
    registry: CollectorRegistry
    pod_name: str
    reader: Reader
    now: Callable[[], float]
    """Seconds since the epoch."""
    timer: Callable[[], float]
    """Monotonic seconds."""
    new_id: Callable[[], str]
    """An id that no other answer has."""
    auth: Auth | None = None
    """Who may call; None: everybody who reaches the server."""
    _worker: BaseModelWorker | None = None
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.registry, self.load_now)

    @property
    def worker(self) -> BaseModelWorker:
        """The worker.

        Raises:
            NotReady: before there is one.
        """
        if self._worker is None:
            raise NotReady("the engine is being imported; wait until /readyz answers 200")
        return self._worker

    def attach(self, worker: BaseModelWorker) -> None:
        """Serve this worker, which may not be loaded yet."""
        self._worker = worker

    @property
    def engine_api(self) -> ASGIApp | None:
        """The engine's own application; None if there is none, or not yet."""
        return None if self._worker is None else self._worker.api

    def loaded(self) -> None:
        """The worker's model is there: take work."""
        self.metrics.loaded(self.worker.info)
        if (counters := self.worker.counters) is not None:
            self.metrics.add(counters)
        self.lifecycle.loaded()

    def trust(self, trust: wire.Trust) -> None:
        """Take these callers' tokens from now on."""
        if self.auth is not None and self.auth.take(trust):
            self.lifecycle.trusted()

    def alive(self) -> bool:
        """False when the engine has died."""
        return self._worker is None or self._worker.alive()

    def load_now(self) -> Load:
        """Requests in the engine."""
        return Load() if self._worker is None else self._worker.load_now()

    def fingerprint(self) -> Mapping[str, str]:
        """Headers that say who answered, with which model; the pod alone before it is loaded."""
        headers = {wire.HEADER_WORKER: self.pod_name}
        if self.lifecycle.has_model:
            info = self.worker.info
            headers[wire.HEADER_REVISION] = info.revision
            headers[wire.HEADER_DTYPE] = info.dtype
            load = self.load_now()
            used = "-" if load.kv_usage is None else f"{load.kv_usage:.2f}"
            headers[wire.HEADER_LOAD] = f"{load.running} {load.waiting} {used}"
        return headers

    def heartbeat(self) -> wire.Heartbeat:
        """What to tell the operator now."""
        beat = wire.Heartbeat(
            state=self.lifecycle.state,
            reason=self.lifecycle.reason,
            message=_at_most(1024, self.lifecycle.message),
            progress=self.lifecycle.progress,
        )
        if not self.lifecycle.has_model:
            return beat
        info, load = self.worker.info, self.load_now()
        return beat.model_copy(
            update={
                "model": info.name,
                "revision": info.revision,
                "dtype": info.dtype,
                "max_model_len": info.max_model_len,
                "running": load.running,
                "waiting": load.waiting,
                "scoring": self._scoring_report(),
                "adapters": list(self.worker.adapters),
            }
        )

    def _scoring_report(self) -> wire.ScoringReport | None:
        try:
            scoring = self.worker.scoring
        except Unsupported:
            return None
        return wire.ScoringReport(
            family=scoring.family, recipe_hash=scoring.recipe_hash, compared=scoring.compared
        )


def _at_most(characters: int, text: str) -> str:
    return text if len(text) <= characters else text[: characters - 3] + "..."
