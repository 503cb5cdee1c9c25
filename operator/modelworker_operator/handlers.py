"""The only module with `@kopf`: watch events go into the store, their owners into the queue."""

import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import kopf

from modelworker_operator.resources import CHILD_SELECTOR, CHILDREN, PODS, WATCHED, Resource
from modelworker_operator.resync import Resync
from modelworker_operator.store import Key, Store

WATCH_SECONDS: Final = 300
"""After so long the API server ends a watch and kopf starts the next."""


class _Backoffs:
    """Seconds between attempts to reach the API server, without end: it comes back."""

    def __iter__(self) -> Iterator[float]:
        delay = 0.25
        while True:
            yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            delay = min(4.0, delay * 2)


class _NoEssence(kopf.DiffBaseStorage):
    """Keeps kopf from copying every object whole in search of changes: nobody asks for them."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        raise NotImplementedError("event handlers have kopf store nothing")


def settings() -> kopf.OperatorSettings:
    """How kopf becomes an event pump that writes nothing and puts nothing on objects."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.networking.connect_timeout = 5
    chosen.networking.request_timeout = 30
    chosen.networking.error_backoffs = _Backoffs()
    chosen.watching.server_timeout = WATCH_SECONDS
    chosen.watching.connect_timeout = 5
    # Small pages that are soon let go: lists whole in memory cost 70 MiB with 500 objects.
    chosen.watching.chunk_size = 50
    chosen.watching.inactivity_timeout = 70
    for child in CHILDREN:
        chosen.watching.label_selectors[child.group, child.version, child.plural] = CHILD_SELECTOR
    chosen.persistence.diffbase_storage = _NoEssence()
    chosen.queueing.idle_timeout = 0.05
    chosen.queueing.exit_timeout = 0.2
    chosen.queueing.error_delays = (1, 2, 5, 10, 30)
    chosen.process.ultimate_exiting_timeout = 20
    return chosen


def handlers(
    store: Store,
    enqueue: Callable[[Key], None],
    resync: Resync,
    *,
    session: Callable[[], Awaitable[Any]],
    server: str,
    on_pod_gone: Callable[[str], None],
) -> kopf.OperatorRegistry:
    """A registry with the watches of every kind.

    Not kopf's indices, though they would hold back the handlers until every object is
    listed: each object would be held in memory for so long. `Resync` opens the queue when
    the store has everything, and sees to it without trusting the watches.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=server, aiohttp_session=await session())

    def watch(resource: Resource) -> None:
        where = (resource.group, resource.version, resource.plural)

        @kopf.on.event(*where, registry=registry, id=resource.plural)
        async def seen(event: kopf.RawEvent, **_: Any) -> None:
            raw = event["object"]
            if event["type"] == "DELETED":
                owners = store.discard(resource, raw)
                if resource is PODS:
                    on_pod_gone(raw["metadata"]["uid"])
            else:
                owners = store.put(resource, raw)
                if event["type"] is None and resync.synced:
                    resync.want()
            for owner in owners:
                enqueue(owner)

    for resource in WATCHED:
        watch(resource)
    return registry
