"""Compares the store with the API server: at start, after a gap in a watch, and periodically."""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from modelworker_operator.cluster import Cluster
from modelworker_operator.errors import OperatorError
from modelworker_operator.queue import KeyedQueue
from modelworker_operator.resources import PODS, WATCHED
from modelworker_operator.store import Key, Store

_POLL_SECONDS: Final = 0.1
_PATIENCE: Final = 150
_SETTLE_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Resync:
    """Keeps the store honest, and has every object looked at again from time to time.

    A watch that starts over (HTTP 410) tells what exists but not what was deleted
    meanwhile. A list of bare metadata, which costs no write, finds that out.
    """

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        queue: KeyedQueue[Key],
        *,
        seconds: float,
        on_gone: Callable[[str], None],
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._queue = queue
        self._seconds = seconds
        self._on_gone = on_gone
        self._wanted = asyncio.Event()
        self._synced = asyncio.Event()
        self.behind = 0
        """Objects that the last comparison found the store to lack."""

    @property
    def synced(self) -> bool:
        """Whether the watches have brought everything that was there at the start."""
        return self._synced.is_set()

    async def until_synced(self) -> None:
        """Return once they have."""
        await self._synced.wait()

    def want(self) -> None:
        """Compare soon: a watch has started over."""
        self._wanted.set()

    async def run(self) -> None:
        """Work until cancelled. The queue is opened as soon as the store has everything."""
        while not self.synced:
            await self._catch_up()
        self._queue.open()
        while True:
            # Not all replicas and objects at once.
            period = self._seconds * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
            try:
                async with asyncio.timeout(period):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(_SETTLE_SECONDS)
                self._wanted.clear()
            await self._compare()
            for key in self._store.objects():
                self._queue.add(key)

    async def _catch_up(self) -> None:
        """Wait until the watches have brought everything that a list at this time holds."""
        try:
            listed = {kind: (await self._cluster.list_versions(kind))[0] for kind in WATCHED}
            for _ in range(_PATIENCE):
                if not any(self._store.lacks(kind, seen) for kind, seen in listed.items()):
                    self._synced.set()
                    return
                await asyncio.sleep(_POLL_SECONDS)
            _log.warning("the watches have not brought every object yet; waiting")
        except OperatorError as error:
            _log.warning("cannot list objects: %s", error)
            await asyncio.sleep(_POLL_SECONDS)

    async def _compare(self) -> None:
        while True:
            try:
                await self._compare_once()
            except OperatorError as error:
                _log.warning("cannot compare with the API server: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _compare_once(self) -> None:
        behind = 0
        for resource in WATCHED:
            listed, version = await self._cluster.list_versions(resource)
            gone = self._store.prune(resource, listed, version)
            for entry in gone:
                if resource is PODS:
                    self._on_gone(entry.uid)
                if entry.owner:
                    self._queue.add(entry.owner)
            behind += self._store.lacks(resource, listed)
        self.behind = behind
