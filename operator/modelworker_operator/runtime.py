"""What a leading operator runs: the queue, the watches, the heartbeat listener, the sweeps."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from modelworker_api import kube, wire
from modelworker_operator.cluster import Cluster
from modelworker_operator.config import Config
from modelworker_operator.election import Election, Leadership
from modelworker_operator.events import EventLimit, Events
from modelworker_operator.health import Metrics, Report, controller_label
from modelworker_operator.heartbeats import Registry
from modelworker_operator.identity import Identities
from modelworker_operator.listener import Heartbeats
from modelworker_operator.policy import callers, takes_tokens
from modelworker_operator.queue import KeyedQueue
from modelworker_operator.reconcile import World, reconcile
from modelworker_operator.resync import Resync
from modelworker_operator.spec import WorkerSpec
from modelworker_operator.status import Beat
from modelworker_operator.store import Key, Store
from modelworker_operator.trust import TokenKeys

GRACE_SECONDS: Final = 60.0
SWEEP_SECONDS: Final = 5.0
_DEAD_WATCH_SECONDS: Final = 700.0
"""Twice the life of a watch and some: within it every watch is started anew."""
_DEAD_ELECTION_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks, read only through here."""

    monotonic: Callable[[], float]
    time: Callable[[], float]
    now: Callable[[], datetime]


class Contact:
    """When the API server was last tried and whether it answers."""

    def __init__(self, clock: Clock, on_recovered: Callable[[], None]) -> None:
        self._clock = clock
        self._on_recovered = on_recovered
        self._away = False
        self.tried = clock.monotonic()

    def __call__(self, answered: bool) -> None:
        """Note an answer, or the lack of one."""
        self.tried = self._clock.monotonic()
        if answered and self._away:
            _log.info("the API server answers again")
            self._on_recovered()
        self._away = not answered


class Runtime:
    """The parts of an operator, put together; nothing runs before its coroutine is awaited."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        *,
        leadership: Leadership,
        election: Election | None,
        cluster: Callable[[Callable[[bool], None], Callable[[str, str, int], None]], Cluster],
        instance: str,
    ) -> None:
        self._config = config
        self._clock = clock
        self._leadership = leadership
        self._election = election
        self._leading = False
        self._grace_until = clock.monotonic() + GRACE_SECONDS
        self.metrics = Metrics(self.report)
        self.store = Store()
        self.registry = Registry()
        self.queue: KeyedQueue[Key] = KeyedQueue(self._pass, workers=config.workers)
        self.contact = Contact(clock, self.queue.retry_delayed)
        self.cluster = cluster(self.contact, self._count_request)
        self.keys = TokenKeys(self.cluster.published, clock.monotonic)
        self.resync = Resync(
            self.store,
            self.cluster,
            self.queue,
            seconds=config.resync_seconds,
            on_gone=self.registry.forget,
        )
        self.events = Events(
            self.cluster.create_event,
            EventLimit(clock.monotonic),
            instance=instance,
            now=clock.now,
        )
        self._world = World(
            store=self.store,
            cluster=self.cluster,
            config=config,
            send_events=self.events,
            beats=self._beats,
            in_grace=self._in_grace,
            now=clock.now,
        )
        self.heartbeats = Heartbeats(
            store=self.store,
            registry=self.registry,
            identities=Identities(
                self.cluster.review_token,
                audience=kube.HEARTBEAT_AUDIENCE,
                monotonic=clock.monotonic,
                time=clock.time,
            ),
            enqueue=self.queue.add,
            monotonic=clock.monotonic,
            on_answer=lambda code: self.metrics.heartbeats.labels(str(code)).inc(),
            trust=self._trust,
        )

    def lead(self) -> None:
        """From now on this process leads; silence of workers counts after a grace period."""
        self._leading = True
        self._grace_until = self._clock.monotonic() + GRACE_SECONDS

    async def sweep(self) -> None:
        """Look for workers that fell silent, until cancelled."""
        await asyncio.sleep(max(0.0, self._grace_until - self._clock.monotonic()))
        for key in self.store.objects():
            self.queue.add(key)
        frozen = False
        while True:
            result = self.registry.sweep(self._clock.monotonic())
            if result.frozen and not frozen:
                _log.error(
                    "more than half of %d workers fell silent at once: heartbeats do not arrive "
                    "here, so none is marked stale; check the heartbeat Service and network policy",
                    len(self.registry),
                )
            elif frozen and not result.frozen:
                _log.info("heartbeats arrive again")
            frozen = result.frozen
            for key in result.changed:
                self.queue.add(key)
            await asyncio.sleep(SWEEP_SECONDS)

    def report(self) -> Report:
        """The operator at this moment."""
        now = self._clock.monotonic()
        known = Counter(key.kind for key in self.store.objects())
        return Report(
            leading=self._leading and self._leadership.remaining() > 0,
            dead=tuple(self._dead(now)),
            unready=tuple(self._unready()),
            gauges=(
                ("workqueue_depth", "Objects that wait for a pass.", len(self.queue)),
                ("workqueue_delayed", "Objects in back-off.", self.queue.delayed),
                ("modelworker_store_behind", "Objects the watches missed.", self.resync.behind),
                ("modelworker_heartbeat_pods", "Pods that report.", len(self.registry)),
                ("modelworker_heartbeat_stale_pods", "Pods that fell silent.", self.registry.stale),
                (
                    "modelworker_heartbeat_oldest_age_seconds",
                    "Age of the oldest last heartbeat.",
                    self.registry.oldest(now),
                ),
                (
                    "modelworker_heartbeat_plane_down",
                    "1 while most pods are silent at once.",
                    float(self.registry.frozen),
                ),
                (
                    "modelworker_token_keys_age_seconds",
                    "Age of the keys that workers check tokens with; 0 unless this leads.",
                    self.keys.age if self._leading else 0.0,
                ),
            ),
            objects=tuple((kind.kind, known[kind]) for kind in kube.KINDS),
            states=tuple((state.value, count) for state, count in self.registry.states().items()),
        )

    def _dead(self, now: float) -> Sequence[str]:
        problems = []
        if self._leading and now - self.contact.tried > _DEAD_WATCH_SECONDS:
            problems.append(f"no watch was started for {now - self.contact.tried:.0f} s")
        if self._election and now - self._election.attempted > _DEAD_ELECTION_SECONDS:
            age = now - self._election.attempted
            problems.append(f"the lease was not looked at for {age:.0f} s")
        return problems

    def _unready(self) -> Sequence[str]:
        if not self._leading:
            return ()
        problems = []
        if not self.resync.synced:
            problems.append("the watches have not brought every object yet")
        if self._leadership.remaining() <= 0:
            problems.append(f"the lease was not renewed for {self._leadership.age:.0f} s")
        return problems

    async def _pass(self, key: Key) -> bool:
        metrics, controller = self.metrics, controller_label(key.kind)
        result = "error"
        try:
            with metrics.reconcile_seconds.labels(controller).time():
                settled = await reconcile(key, self._world)
            result = "success" if settled else "requeue_after"
        except Exception:
            metrics.reconcile_errors.labels(controller).inc()
            raise
        finally:
            metrics.reconciles.labels(controller, result).inc()
        return settled

    def _beats(self, uids: Sequence[str]) -> Mapping[str, Beat]:
        found = self.registry.beats(uids, self._clock.monotonic())
        return {uid: Beat(said, age) for uid, (said, age) in found.items()}

    def _trust(self, namespace: str, spec: WorkerSpec) -> wire.Trust | None:
        if not takes_tokens(spec, self._config):
            return None
        return self.keys.trust(callers(namespace, self._config))

    def _in_grace(self) -> bool:
        return self._clock.monotonic() < self._grace_until

    def _count_request(self, method: str, resource: str, code: int) -> None:
        self.metrics.requests.labels(method, resource, str(code)).inc()
